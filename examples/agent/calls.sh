#!/usr/bin/env bash
# Calls the API through the agent's proxy, and asks the agent for a token. GUARD is the guard token.
set -eu
agent=http://127.0.0.1:2774
curl -fsS "$agent/proxy/default/v3/users/list" -H "X-Token-Broker-Token: $GUARD"
curl -fsS "$agent/oauth/token" --user "any:$GUARD" --data grant_type=client_credentials
