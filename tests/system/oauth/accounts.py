"""Prints the secrets of six accounts: four grants of a person, one with a password, one of a machine.

    accounts.py SERVER TOKEN_PATH REVOKE_PATH SCOPE PERSON USER MACHINE RESEND_WITHIN_SECONDS

PERSON, USER and MACHINE are names of clients. The persons' refresh tokens come later.
"""
import json
import sys

server, token, revoke, scope, person, user, machine, resend_within = sys.argv[1:]


def secret(grant, client, **more):
    return {"dialect": "oauth2", "grant": grant, "client_id": client, "client_secret": f"{client}-secret",
            "token_url": server + token, "revoke_url": server + revoke, "probe_url": server + "/test/api", **more}


accounts = {f"person-{number}": secret("refresh_token", person, scope=scope, resend_within_seconds=int(resend_within))
            for number in range(1, 5)}
accounts["user"] = secret("password", user, scope=scope, username="user@example.invalid", password="word",
                          client_auth="client_secret_post")
accounts["machine"] = secret("client_credentials", machine, scope="api")
print(json.dumps(accounts))
