"""What django-allauth needs to bring people back from their issuer; none of its own forms is offered."""

from __future__ import annotations

from allauth.mfa.base.views import authenticate
from allauth.socialaccount import views
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

to_sign_in = RedirectView.as_view(url="/login/", query_string=True)

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("allauth.socialaccount.providers.openid_connect.urls")),
    path("login/cancelled/", views.login_cancelled, name="socialaccount_login_cancelled"),
    path("login/error/", views.login_error, name="socialaccount_login_error"),
    path("2fa/authenticate/", authenticate, name="mfa_authenticate"),
    # Names that allauth asks for; all lead to the console's own page.
    path("login/", to_sign_in, name="account_login"),
    path("logout/", to_sign_in, name="account_logout"),
    path("signup/", to_sign_in, name="account_signup"),
    path("inactive/", to_sign_in, name="account_inactive"),
    path("reauthenticate/", to_sign_in, name="account_reauthenticate"),
    path("password/reset/", to_sign_in, name="account_reset_password"),
    path("connections/", to_sign_in, name="socialaccount_connections"),
    path("social/signup/", to_sign_in, name="socialaccount_signup"),
]
