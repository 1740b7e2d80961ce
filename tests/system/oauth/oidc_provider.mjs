// oidc-provider on loopback: opaque tokens, rotation, and a grant that dies when a refresh token is used twice.
// PORT, and ACCESS_TTL in seconds, from the environment.
import Provider, { errors } from "oidc-provider";

const port = Number(process.env.PORT);
const accessTtl = Number(process.env.ACCESS_TTL ?? 3600);
const refreshTtl = 60 * 86400;
const user = "user@example.invalid";
const scope = "openid offline_access api";
const client = (id, method) => ({
  client_id: id, client_secret: `${id}-secret`, token_endpoint_auth_method: method, scope,
  grant_types: ["client_credentials", "refresh_token", "password"], redirect_uris: [], response_types: [],
});
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client("basic", "client_secret_basic"), client("post", "client_secret_post")],
  scopes: scope.split(" "),
  features: {
    clientCredentials: { enabled: true },
    revocation: { enabled: true, allowedPolicy: () => true },
    devInteractions: { enabled: false },
    resourceIndicators: { enabled: false },
  },
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { AccessToken: accessTtl, ClientCredentials: accessTtl, RefreshToken: refreshTtl, Grant: refreshTtl },
});

/** A grant, as a browser's consent would leave it, and its first refresh token. */
async function grantFor(clientId) {
  const grant = new provider.Grant({ clientId, accountId: user });
  grant.addOIDCScope(scope);
  const grantId = await grant.save();
  const refreshToken = new provider.RefreshToken({
    client: await provider.Client.find(clientId), accountId: user, grantId, gty: "password", scope,
    authTime: Math.floor(Date.now() / 1000),
  });
  return { grantId, refreshToken: await refreshToken.save() };
}

provider.registerGrantType("password", async (ctx) => {
  const { username, password } = ctx.oidc.params;
  if (username !== user || password !== "word") throw new errors.InvalidGrant("wrong password");
  const { client } = ctx.oidc;
  const { grantId, refreshToken } = await grantFor(client.clientId);
  const accessToken = new provider.AccessToken({ client, accountId: user, grantId, gty: "password", scope });
  ctx.oidc.entity("AccessToken", accessToken);
  ctx.body = {
    access_token: await accessToken.save(), expires_in: accessToken.expiration, token_type: accessToken.tokenType,
    refresh_token: refreshToken, scope,
  };
}, ["username", "password", "scope"]);

provider.use(async (ctx, next) => {
  if (ctx.path === "/test/grant") { // the refresh token that a person would put into the secret
    ctx.body = { refresh_token: (await grantFor("basic")).refreshToken };
  } else if (ctx.path === "/test/api") { // a resource server
    const found = await provider.AccessToken.find(ctx.get("authorization").replace(/^Bearer /, ""))
      ?? await provider.ClientCredentials.find(ctx.get("authorization").replace(/^Bearer /, ""));
    ctx.status = found ? 200 : 401;
    ctx.body = { alive: Boolean(found) };
  } else {
    await next();
  }
});
provider.on("server_error", (_ctx, error) => console.error("server_error", error));
provider.listen(port, "127.0.0.1", () => console.log("listening"));
