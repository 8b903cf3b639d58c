"""What a role may do, said in the answer when it may not."""

from __future__ import annotations

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from console.roles import may_act, may_look
from controlplane.tenancy.selectors import role_of


class MayLook(BasePermission):
    """Viewer, operator or admin."""

    message = "Your account has no role that may look at the fleet; an admin can give it one."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return may_look(request.user)


class MayAct(BasePermission):
    """Operator or admin."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        self.message = (
            f"This needs the role operator or admin; your role is {role_of(request.user) or 'none'}."
        )
        return may_act(request.user)
