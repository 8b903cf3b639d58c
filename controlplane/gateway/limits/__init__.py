"""Limits of keys, tenants and classes: counted in common by all gateways, judged in each without asking."""
