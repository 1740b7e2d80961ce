"""requests-oauthlib against POST /token: given the URL, it says when a token has expired."""

import unittest

from oauthlib.oauth2 import (
    BackendApplicationClient,
    LegacyApplicationClient,
    OAuth2Error,
    TokenExpiredError,
    UnsupportedGrantTypeError,
)
from requests_aws4auth import AWS4Auth
from requests_oauthlib import OAuth2Session
from stack import API_URL, TOKEN_URL, ConvirzaDown, Counting, wait_until


def session(scope=None):
    return OAuth2Session(client=BackendApplicationClient(client_id="any", scope=scope))


class RequestsOauthlib(unittest.TestCase):
    def test_obtains_a_token_and_keeps_it(self):
        # Its id and secret go into the header, or into the form.
        for authentication in ({}, {"client_secret": "any"}, {"client_secret": "any", "include_client_id": True}):
            client = session(scope=["any", "scope"])
            broker = Counting(client)
            client.fetch_token(TOKEN_URL, **authentication)
            for _ in range(3):
                self.assertEqual(client.get(API_URL).status_code, 200)
            self.assertEqual(broker.asked, 1, authentication)

    def test_signs_its_request_where_iam_guards_the_api(self):
        client = session()
        broker = Counting(client)
        client.fetch_token(TOKEN_URL, auth=AWS4Auth("local", "local", "us-east-1", "execute-api"))
        self.assertTrue(broker.answer.request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 "))
        self.assertEqual(client.get(API_URL).request.headers["Authorization"], f"Bearer {client.access_token}")

    def test_renews_it_when_it_has_expired(self):
        client = session()
        first = client.fetch_token(TOKEN_URL)["access_token"]
        self.assertEqual(client.get(API_URL).status_code, 200)

        def has_expired():
            try:
                client.get(API_URL)
            except TokenExpiredError:
                return True
            return False

        wait_until(has_expired)
        self.assertNotEqual(client.fetch_token(TOKEN_URL)["access_token"], first)
        self.assertEqual(client.get(API_URL).status_code, 200)

    def test_reports_errors(self):
        with self.assertRaises(UnsupportedGrantTypeError) as raised:
            client = OAuth2Session(client=LegacyApplicationClient(client_id="any"))
            client.fetch_token(TOKEN_URL, username="me", password="none")
        self.assertTrue(raised.exception.description)
        # Several of oauthlib's exceptions mean invalid_request, and one covers all codes outside RFC 6749.
        for fields, code in (
            ({"min_ttl_seconds": "soon"}, "invalid_request"),
            ({"account": "nobody"}, "unknown_account"),
        ):
            with self.assertRaises(OAuth2Error) as raised:
                session().fetch_token(TOKEN_URL, **fields)
            self.assertEqual(raised.exception.error, code)
            self.assertTrue(raised.exception.description)

    def test_reports_an_outage(self):
        client = session()
        broker = Counting(client)
        with ConvirzaDown(), self.assertRaises(OAuth2Error) as raised:
            client.fetch_token(TOKEN_URL)
        self.assertEqual(raised.exception.error, "upstream_unavailable")
        self.assertTrue(raised.exception.description)
        # The exception has no place for fields outside RFC 6749; the response has.
        self.assertEqual(broker.answer.status_code, 503)
        self.assertEqual(broker.answer.headers["Retry-After"], str(broker.answer.json()["retry_after"]))


if __name__ == "__main__":
    unittest.main()
