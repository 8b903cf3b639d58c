"""Writing tenants, keys, classes, limits, boosts and roles; every change is audited. By subject, read as one.

Bad input is ``ValidationError`` with the field's name; what the present state forbids
is :class:`TenancyConflictError`.
"""

from controlplane.tenancy.services.api_keys import (
    IssuedKey,
    change_key,
    issue_key,
    note_key_uses,
    revoke_key,
    rotate_key,
)
from controlplane.tenancy.services.boosts import end_boost, grant_boost
from controlplane.tenancy.services.classes import create_class, delete_class, update_class
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.people import (
    add_member,
    change_role,
    create_person,
    remove_member,
)
from controlplane.tenancy.services.playground import borrow_key
from controlplane.tenancy.services.quotas import clear_quota, set_quota
from controlplane.tenancy.services.tenants import (
    close_tenant,
    create_tenant,
    reopen_tenant,
    set_tenant_class,
    update_tenant,
)

__all__ = [
    "IssuedKey",
    "TenancyConflictError",
    "add_member",
    "borrow_key",
    "change_key",
    "change_role",
    "clear_quota",
    "close_tenant",
    "create_class",
    "create_person",
    "create_tenant",
    "delete_class",
    "end_boost",
    "grant_boost",
    "issue_key",
    "note_key_uses",
    "remove_member",
    "reopen_tenant",
    "revoke_key",
    "rotate_key",
    "set_quota",
    "set_tenant_class",
    "update_class",
    "update_tenant",
]
