"""Authlib and requests-oauthlib against the agent: given a URL and a secret, which is the guard token."""

import os
import unittest

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError
from requests_oauthlib import OAuth2Session

TOKEN_URL = os.environ["AGENT_URL"] + "/oauth/token"
API_URL = os.environ["CONVIRZA_URL"] + "/v3/users/list"
GUARD = os.environ["GUARD_TOKEN"]


class Authlib(unittest.TestCase):
    def session(self, secret, **options):
        return AuthlibSession("any", secret, token_endpoint=TOKEN_URL, grant_type="client_credentials", **options)

    def test_obtains_a_token(self):
        for authentication in ("client_secret_basic", "client_secret_post"):
            client = self.session(GUARD, token_endpoint_auth_method=authentication, scope="any scope")
            client.fetch_token()
            self.assertEqual(client.get(API_URL).status_code, 200, authentication)

    def test_with_another_secret_is_refused(self):
        with self.assertRaises(OAuthError) as raised:
            self.session("another").fetch_token()
        self.assertEqual(raised.exception.error, "invalid_client")


class RequestsOauthlib(unittest.TestCase):
    def session(self):
        return OAuth2Session(client=BackendApplicationClient(client_id="any", scope=["any", "scope"]))

    def test_obtains_a_token(self):
        for options in ({}, {"include_client_id": True}):
            client = self.session()
            client.fetch_token(TOKEN_URL, client_secret=GUARD, **options)
            self.assertEqual(client.get(API_URL).status_code, 200, options)

    def test_with_another_secret_is_refused(self):
        with self.assertRaises(InvalidClientError):
            self.session().fetch_token(TOKEN_URL, client_secret="another")


if __name__ == "__main__":
    unittest.main()
