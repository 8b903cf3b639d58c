"""Driving the gateway as clients do: requests of given arrival, length and class, and what they felt."""
