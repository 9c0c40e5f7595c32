"""Django's own administration, with users by `Remote-User` as its manual says, on SQLite."""

from __future__ import annotations

import sys

from . import App

SITE = """
import sys
from pathlib import Path
import django
from django.conf import settings

CONTRIB = ["admin", "auth", "contenttypes", "sessions", "messages", "staticfiles"]
PROCESSORS = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
              "django.contrib.messages.context_processors.messages"]
settings.configure(
    SECRET_KEY="x", DEBUG=True, ALLOWED_HOSTS=[".localhost", "127.0.0.1"], ROOT_URLCONF="site_of_ours", STATIC_URL="/static/",
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite"}},
    INSTALLED_APPS=["django.contrib." + app for app in CONTRIB],
    AUTHENTICATION_BACKENDS=["site_of_ours.Everybody"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
                "site_of_ours.FromTheGate", "django.contrib.messages.middleware.MessageMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
                "OPTIONS": {"context_processors": PROCESSORS}}],
)
sys.modules["site_of_ours"] = sys.modules["__main__"]
django.setup()

from django.contrib import admin
from django.contrib.auth.backends import RemoteUserBackend
from django.contrib.auth.middleware import RemoteUserMiddleware
from django.core.management import call_command
from django.urls import path

class FromTheGate(RemoteUserMiddleware):
    header = "HTTP_REMOTE_USER"

class Everybody(RemoteUserBackend):
    def configure_user(self, request, user, created=True):
        user.is_staff = user.is_superuser = True
        user.save()
        return user

urlpatterns = [path("admin/", admin.site.urls)]
call_command("migrate", verbosity=0)
call_command("runserver", "127.0.0.1:" + sys.argv[1], "--noreload")
"""


class DjangoAdmin(App):
    name = "django-admin"
    up = "/admin/login/"
    gate = {"identity": {"headers": ["remote-user"]}}

    def command(self) -> list[str]:
        script = self.home / "site_of_ours.py"
        script.write_text(SITE)
        return [sys.executable, str(script), str(self.port)]
