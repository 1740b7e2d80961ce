"""django-oauth-toolkit on loopback: rotation, and a grant that dies when a refresh token is used twice.

PORT, ACCESS_TTL and GRACE in seconds, and DB, a file, from the environment.
"""
import os
import secrets
import uuid
from datetime import timedelta
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="loopback", ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DB"],
                           "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"}}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    MIDDLEWARE=[], PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    OAUTH2_PROVIDER={
        "SCOPES": {"api": "all"}, "DEFAULT_SCOPES": ["api"],
        "ACCESS_TOKEN_EXPIRE_SECONDS": int(os.environ.get("ACCESS_TTL", "3600")),
        "REFRESH_TOKEN_EXPIRE_SECONDS": 60 * 86400,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": int(os.environ.get("GRACE", "0")),
    },
)
django.setup()

# These need the settings.
from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from oauth2_provider import views  # noqa: E402
from oauth2_provider.models import AccessToken, Application, RefreshToken  # noqa: E402

USER = "user@example.invalid"


@csrf_exempt
def grant(_request):
    """The refresh token that a person would put into the secret."""
    user = get_user_model().objects.get(username=USER)
    application = Application.objects.get(client_id="users")
    access = AccessToken.objects.create(user=user, application=application, token=secrets.token_urlsafe(24), scope="api",
                                        expires=timezone.now() + timedelta(seconds=60))
    refresh = RefreshToken.objects.create(user=user, application=application, token=secrets.token_urlsafe(24),
                                          access_token=access, token_family=uuid.uuid4())
    return JsonResponse({"refresh_token": refresh.token})


def api(request):
    """A resource server."""
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    alive = AccessToken.objects.filter(token=token, expires__gt=timezone.now()).exists()
    return JsonResponse({"alive": alive}, status=200 if alive else 401)


urlpatterns = [
    path("o/token/", views.TokenView.as_view()), path("o/revoke_token/", views.RevokeTokenView.as_view()),
    path("test/grant", grant), path("test/api", api),
]


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments):
        pass


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_user(USER, password="word")
    for client_id, flow in (("users", Application.GRANT_PASSWORD), ("machine", Application.GRANT_CLIENT_CREDENTIALS)):
        Application.objects.create(
            user=user, client_id=client_id, client_secret=f"{client_id}-secret", hash_client_secret=False,
            client_type=Application.CLIENT_CONFIDENTIAL, authorization_grant_type=flow)
    server = make_server("127.0.0.1", int(os.environ["PORT"]), get_wsgi_application(), Server, Quiet)
    print("listening", flush=True)
    server.serve_forever()
