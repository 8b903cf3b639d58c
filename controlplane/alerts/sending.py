"""The only way out to webhooks: to public addresses, resolved once, without redirects, within limits.

A name is resolved here, every address is judged, and the connection goes to the
address that was judged: a second answer of the name server changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx
from django.conf import settings

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 2**10
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenTargetError(ValueError):
    """A webhook may not go there; the text says why."""

    field = "url"


class SendingError(RuntimeError):
    """It could not be delivered; the text says why. To be tried again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A judged destination."""

    url: SplitResult
    address: Address
    port: int


def check_url(url: str) -> SplitResult:
    """The parts of a URL that may be called. Raises :class:`ForbiddenTargetError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ForbiddenTargetError(f"is not a URL: {error}") from error
    allowed = ("https",) if settings.WEBHOOK_HTTPS_ONLY else ("https", "http")
    if parts.scheme not in allowed:
        raise ForbiddenTargetError(f"must begin with {' or '.join(f'{each}://' for each in allowed)}")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise ForbiddenTargetError("must name a host and no user or password")
    if port == 0:
        raise ForbiddenTargetError("port 0 is none")
    return parts


def resolve(url: str) -> Target:
    """Where the URL leads now. Raises :class:`ForbiddenTargetError` if any of its addresses is not public,
    :class:`SendingError` if the name has none.
    """
    parts = check_url(url)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SendingError(f"the name {host} has no address: {type(error).__name__}") from error
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    for address in addresses:
        check_address(host, address)
    return Target(parts, addresses[0], port)


def check_address(host: str, address: Address) -> None:
    """Raises :class:`ForbiddenTargetError` for private, loopback, link-local and other special ranges."""
    plain = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    if any(plain in network for network in allowed_networks() if network.version == plain.version):
        return
    if not plain.is_global or plain.is_multicast or plain.is_reserved or plain.is_unspecified:
        raise ForbiddenTargetError(
            f"{host} is {address}, not a public address; LLUMDECK_WEBHOOK_NETWORKS can allow its network"
        )


def allowed_networks() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(each, strict=False) for each in settings.WEBHOOK_NETWORKS]


def send(url: str, body: bytes, headers: dict[str, str]) -> int:
    """POST to a judged address; returns the answer's status.

    Raises :class:`ForbiddenTargetError`, or :class:`SendingError` when nothing was heard.
    A redirect is an answer like any other: it is not followed.
    """
    target = resolve(url)
    host = str(target.url.hostname)
    place = f"[{target.address}]" if target.address.version == 6 else str(target.address)
    pinned = target.url._replace(netloc=f"{place}:{target.port}").geturl()
    named = {"Host": target.url.netloc, "User-Agent": "Llumdeck", "Content-Type": "application/json"}
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", pinned, content=body, headers=named | headers, extensions={"sni_hostname": host}
            ) as answer,
        ):
            _read_little(answer)
            return answer.status_code
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise SendingError(f"{type(error).__name__}: {str(error)[:200]}") from error


def _read_little(answer: httpx.Response) -> None:
    """Enough to be polite; whoever sends without end is hung up on."""
    read = 0
    for chunk in answer.iter_raw():
        read += len(chunk)
        if read > MAX_ANSWER_BYTES:
            return
