// A Lambda function on its own runtime that calls Convirza through the agent.

import { createTokenSource } from "token-broker";

const { AWS_LAMBDA_RUNTIME_API, AWS_SESSION_TOKEN, TOKEN_BROKER_PORT } = process.env;
const RUNTIME = `http://${AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
const source = createTokenSource();

async function handler() {
    // Like code for AWS's own extension.
    const headers = { "X-Aws-Parameters-Secrets-Token": AWS_SESSION_TOKEN };
    const url = `http://127.0.0.1:${TOKEN_BROKER_PORT}/proxy/default/v3/users/list`;
    const response = await fetch(url, { headers });
    const proxied = Number(response.headers.get("X-Token-Broker-Generation"));
    const { result } = await response.json();
    return { users: result, generations: [(await source.get()).generation, proxied] };
}

for (;;) {
    const invocation = await fetch(`${RUNTIME}/next`);
    const id = invocation.headers.get("Lambda-Runtime-Aws-Request-Id");
    await invocation.json();
    const [answer, ending] = await handler().then(
        (answer) => [answer, "response"],
        (error) => [{ errorType: error.name, errorMessage: error.message }, "error"],
    );
    await fetch(`${RUNTIME}/${id}/${ending}`, { method: "POST", body: JSON.stringify(answer) });
}
