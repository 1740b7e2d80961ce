# The dialect `oauth2` on two third-party OAuth 2.0 servers, which rotate refresh tokens and end a grant whose token is
# used twice: six processes on one table for a minute, with random faults (`cargo soak oauth`). The second server has a
# grace period too.
# shellcheck shell=bash

OAUTH=tests/system/oauth
ACCESS_TTL=12   # seconds
GRACE=120       # seconds
RULES="no token is sent again against the rules, no grant is lost without need, no caller refused without need"

# started NAME URL COMMAND...: a server, once it answers.
started() {
    local name=$1 url=$2
    shift 2
    background "$name" "$@"
    wait_for 60 curl -fsS -X POST "$url/test/grant"
}

oidc_provider() {
    local port
    port=$(free_port) && OIDC=http://127.0.0.1:$port &&
        # A module finds its packages above its own folder.
        cp "$OAUTH/oidc_provider.mjs" "$SYSTEM_DIR/oauth-node/" &&
        started oidc_provider "$OIDC" env PORT="$port" ACCESS_TTL=$ACCESS_TTL node "$SYSTEM_DIR/oauth-node/oidc_provider.mjs"
}

django_oauth_toolkit() {
    local port
    rm -f "$SYSTEM_DIR/oauth.sqlite3"*
    port=$(free_port) && DJANGO=http://127.0.0.1:$port &&
        started django_oauth_toolkit "$DJANGO" env PORT="$port" ACCESS_TTL=$ACCESS_TTL GRACE=$GRACE \
            DB="$SYSTEM_DIR/oauth.sqlite3" "$SYSTEM_DIR/oauth/bin/python" "$OAUTH/django_oauth_toolkit.py"
}

# soak NAME URL ARGUMENT...: the run against a server, with the arguments of accounts.py.
soak() {
    local name=$1 url=$2
    shift 2
    python3 "$OAUTH/accounts.py" "$url" "$@" >"$SYSTEM_DIR/oauth-accounts.json" &&
        cargo run --quiet --locked --package token-broker-benchmark --bin soak -- \
            oauth "$SYSTEM_DIR/oauth-accounts.json" "$url/test/grant" 60 | tee "$LOGS/$name-figures.log"
}

if node_modules oauth oidc-provider@9.13.3 >"$LOGS/oidc-provider-install.log" 2>&1; then
    need "starting oidc-provider" oidc_provider
    check "oauth: oidc-provider: $RULES" \
        soak oidc_provider "$OIDC" /token /token/revocation "openid offline_access api" basic post basic 0
else
    skip "oauth: oidc-provider" "it cannot be installed"
fi
if venv oauth django-oauth-toolkit==3.4.1 Django==5.2.19 >"$LOGS/django-install.log" 2>&1; then
    need "starting django-oauth-toolkit" django_oauth_toolkit
    check "oauth: django-oauth-toolkit: $RULES" \
        soak django_oauth_toolkit "$DJANGO" /o/token/ /o/revoke_token/ api users users machine $GRACE
else
    skip "oauth: django-oauth-toolkit" "it cannot be installed"
fi
