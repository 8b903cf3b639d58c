"""Where an agent may say that it listens: what a gateway or another agent would connect to because of it."""

from __future__ import annotations

import functools
import ipaddress
import re

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@functools.lru_cache(maxsize=8192)
def endpoint_problem(endpoint: str) -> str:
    """Why nobody connects to it; empty when it is fit, or none is given yet.

    Fleets live on private networks, so those are fit; link-local addresses (among them the
    clouds' metadata services), multicast and what stands for any address are not.
    """
    if not endpoint:
        return ""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return "" if rest and "\0" not in rest else "names no socket"
    if scheme != "tcp":
        return "must begin with tcp:// or ipc://"
    host, _, port = rest.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        return "must end with a port from 1 to 65535"
    return _host_problem(host.removeprefix("[").removesuffix("]"))


def _host_problem(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "" if HOST.fullmatch(host) else "names no host"
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        return f"{host} is no address of one machine in a fleet"
    return ""
