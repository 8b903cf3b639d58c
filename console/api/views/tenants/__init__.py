"""Tenants and what is theirs; SLO classes."""
