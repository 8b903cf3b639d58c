"""What tenancy refuses because of its present state."""

from __future__ import annotations


class TenancyConflictError(ValueError):
    """The change does not go with what is there; ``str(self)`` says why, and what would be right."""
