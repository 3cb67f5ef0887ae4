// A real authorization server with an API behind it, on one port: PORT, CLIENTS (JSON), TTL (seconds of an access token).
// GET /api/me wants a live access token; GET /stats tells what was asked; POST /end revokes every grant.
import http from "node:http";
import Provider from "oidc-provider";

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const stats = { refreshes: 0, codes: 0, revocations: 0, api: 0, refused: 0 };

const provider = new Provider(issuer, {
  clients: JSON.parse(process.env.CLIENTS),
  scopes: ["openid", "offline_access", "read", "write"],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  features: { devInteractions: { enabled: true }, revocation: { enabled: true } },
  ttl: {
    AccessToken: Number(process.env.TTL), RefreshToken: 3600, AuthorizationCode: 60, Grant: 3600, Interaction: 600,
    Session: 3600, IdToken: 600,
  },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
});
const grants = new Set();
provider.on("grant.success", (ctx) => {
  const kind = ctx.oidc.params.grant_type;
  if (kind === "refresh_token") stats.refreshes += 1;
  if (kind === "authorization_code") stats.codes += 1;
  if (ctx.oidc.entities.Grant) grants.add(ctx.oidc.entities.Grant.jti);
});
provider.on("access_token.destroyed", () => { stats.revocations += 1; });
provider.on("refresh_token.destroyed", () => { stats.revocations += 1; });

const serve = provider.callback();
const json = (res, status, body, headers = {}) => {
  res.writeHead(status, { "content-type": "application/json", ...headers });
  res.end(JSON.stringify(body));
};
http.createServer(async (req, res) => {
  if (req.url === "/stats") return json(res, 200, stats);
  if (req.url === "/end") {
    for (const id of grants) {
      const grant = await provider.Grant.find(id);
      if (grant) await grant.destroy();
      await provider.RefreshToken.revokeByGrantId(id);
      await provider.AccessToken.revokeByGrantId(id);
    }
    return json(res, 200, {});
  }
  if (req.url.startsWith("/api/")) {
    stats.api += 1;
    const token = (req.headers.authorization ?? "").replace(/^Bearer /, "");
    const found = token && (await provider.AccessToken.find(token));
    if (found && !found.isExpired) return json(res, 200, { sub: found.accountId, scope: found.scope });
    stats.refused += 1;
    return json(res, 401, { error: "invalid_token" }, { "www-authenticate": 'Bearer error="invalid_token"' });
  }
  return serve(req, res);
}).listen(port, "127.0.0.1");
