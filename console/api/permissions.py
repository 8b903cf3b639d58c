"""Asks the role matrix, and says in the answer why somebody may not."""

from __future__ import annotations

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from console.accounts.principals import Principal
from console.api.access import Access, access_to
from console.api.authentication import principal_of


class ByTable(BasePermission):
    """The row of ``console.api.access.MATRIX`` for this route and method decides."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not hasattr(view, (request.method or "").lower()):
            return True  # Answered with 405 before anything is looked at.
        match = request.resolver_match
        access = access_to(match.url_name or "" if match else "", (request.method or "").lower())
        caller = principal_of(request)
        self.message = refusal(access, caller)
        return not self.message


def refusal(access: Access | None, caller: Principal | None) -> str:
    """Why not; empty: they may."""
    if access is None:
        return "Nobody may call this: it has no row in the table of who may do what."
    if caller is None:
        return "" if access.anonymous else "Sign in first."
    if caller.is_machine and (access.scope is None or not caller.has_scope(access.scope)):
        if access.scope is None:
            return "This is for people; a machine token cannot do it."
        return f"This needs a token with the scope {access.scope}."
    if access.any_account or caller.role in access.roles:
        return ""
    if caller.role is None:
        return "Your account has no role that may do this; an admin can give it one."
    roles = " or ".join(role.replace("_", " ") for role in _in_order(access.roles))
    return f"This needs the role {roles}; your role is {caller.role.replace('_', ' ')}."


def _in_order(roles: frozenset[str]) -> list[str]:
    return [role for role in ("viewer", "operator", "admin", "tenant_owner") if role in roles]
