"""Endpoints, by subject. Views translate; services write and selectors read."""
