import { App, Stack } from "aws-cdk-lib";
import { CfnInclude } from "aws-cdk-lib/cloudformation-include";

const app = new App();
const stack = new Stack(app, "token-broker");
const broker = new CfnInclude(stack, "TokenBroker", {
    templateFile: "token-broker.template.yaml",
    parameters: { CodeBucket: "BUCKET" },
});
export const liveAliasArn = broker.getResource("LiveAlias").ref;    // what callers invoke
