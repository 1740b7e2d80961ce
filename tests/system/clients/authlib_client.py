"""Authlib against POST /token: given the URL, it does the rest."""

import unittest

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from stack import API_URL, TOKEN_URL, ConvirzaDown, Counting, wait_until


def session(**options):
    options = {"client_id": "any", "client_secret": "any", **options}
    return OAuth2Session(token_endpoint=TOKEN_URL, grant_type="client_credentials", **options)


class Authlib(unittest.TestCase):
    def test_obtains_a_token_and_keeps_it(self):
        for authentication in ("client_secret_basic", "client_secret_post", "none"):
            client = session(token_endpoint_auth_method=authentication, scope="any scope")
            broker = Counting(client)
            client.fetch_token()
            for _ in range(3):
                self.assertEqual(client.get(API_URL).status_code, 200)
            self.assertEqual(broker.asked, 1, authentication)

    def test_renews_it_when_it_has_expired(self):
        # By default, Authlib renews a minute ahead, which is longer than these tokens live.
        client = session(leeway=0)
        broker = Counting(client)
        first = client.fetch_token()["access_token"]
        self.assertEqual(client.get(API_URL).status_code, 200)
        self.assertEqual(broker.asked, 1)
        wait_until(lambda: client.token.is_expired(leeway=0))
        self.assertEqual(client.get(API_URL).status_code, 200)
        self.assertEqual(broker.asked, 2)
        self.assertNotEqual(client.token["access_token"], first)

    def test_reports_errors(self):
        for fields, code in (
            ({"grant_type": "password", "username": "me", "password": "none"}, "unsupported_grant_type"),
            ({"min_ttl_seconds": "soon"}, "invalid_request"),
            ({"account": "nobody"}, "unknown_account"),
        ):
            with self.assertRaises(OAuthError) as raised:
                session().fetch_token(TOKEN_URL, **fields)
            self.assertEqual(raised.exception.error, code)
            self.assertTrue(raised.exception.description)

    def test_reports_an_outage(self):
        # Authlib reports what is not the client's fault as an HTTP error.
        with ConvirzaDown(), self.assertRaises(requests.HTTPError) as raised:
            session().fetch_token()
        response = raised.exception.response
        self.assertEqual((response.status_code, response.json()["error"]), (503, "upstream_unavailable"))
        self.assertEqual(response.headers["Retry-After"], str(response.json()["retry_after"]))


if __name__ == "__main__":
    unittest.main()
