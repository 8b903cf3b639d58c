"""One streamed answer of a gateway, passed on to a browser as it comes, byte for byte.

It is opened while the caller waits, so that a refusal has its status; from then on it is
read on the event loop and holds no thread. Time is bounded: to connect, between two
pieces (gateways send a comment every 15 s), and in all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import httpx
from asgiref.sync import async_to_sync, sync_to_async
from rest_framework import exceptions

from console.api.problems import Unavailable
from engine_agents.messages import GatewayStatus

PATH = "/v1/chat/completions"
TIMEOUTS = httpx.Timeout(connect=2.0, read=60.0, write=10.0, pool=2.0)
LONGEST_S = 600.0
MAX_REFUSAL_BYTES = 64 * 2**10
PASSED_ON = ("content-type", "x-served-by", "x-slo-class", "x-service-tier", "traceparent")
RATES = "x-ratelimit-"
NO_GATEWAY = "No gateway answers, so nothing can be asked. The Overview shows which parts are down."
BROKEN_OFF = "The gateway broke off in the middle of this answer. Ask again."


class Relay:
    """An open answer. Whatever ends it, ``ended`` is called once."""

    def __init__(
        self, client: httpx.AsyncClient, response: httpx.Response, ended: Callable[[], None]
    ) -> None:
        self._client, self._response, self._ended = client, response, ended
        self._open = True

    @property
    def headers(self) -> dict[str, str]:
        """Those of the gateway's that say who served it, as what, and what is left of the limits."""
        given = self._response.headers
        return {name: given[name] for name in given if name in PASSED_ON or name.startswith(RATES)}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        deadline_s = asyncio.get_running_loop().time() + LONGEST_S
        pieces = self._response.aiter_raw()
        try:
            while True:
                async with asyncio.timeout_at(deadline_s):
                    piece = await anext(pieces, b"")
                if not piece:
                    return
                yield piece
        except (httpx.HTTPError, TimeoutError):
            yield error_event(BROKEN_OFF)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Hang up: the gateway takes that as the client having gone, and stops."""
        if self._open:
            self._open = False
            await self._response.aclose()
            await self._client.aclose()
            await sync_to_async(self._ended)()

    def close(self) -> None:
        """The same for Django, which closes what it has sent, or could not send."""
        async_to_sync(self.aclose)()


async def open_relay(
    gateways: Sequence[GatewayStatus],
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    ended: Callable[[], None],
) -> Relay:
    """Ask the first of ``gateways`` that can be reached.

    Raises ``APIException`` with what the gateway said where it refuses, :class:`Unavailable`
    where none answers; ``ended`` is then left to the caller.
    """
    client = httpx.AsyncClient(timeout=TIMEOUTS, trust_env=False)
    try:
        response = await _first_answer(client, gateways, body, headers)
        if not response.is_success:
            raise await _refusal(response)
    except BaseException:
        await client.aclose()
        raise
    return Relay(client, response, ended)


def error_event(message: str) -> bytes:
    """An error in the middle of a stream, in the form that vLLM gives it."""
    return b"data: %s\n\n" % json.dumps({"error": {"message": message}}).encode()


async def _first_answer(
    client: httpx.AsyncClient,
    gateways: Sequence[GatewayStatus],
    body: Mapping[str, Any],
    headers: Mapping[str, str],
) -> httpx.Response:
    plain = {"accept": "text/event-stream", "accept-encoding": "identity"}
    for gateway in gateways:
        request = client.build_request(
            "POST",
            gateway.url + PATH,
            json={"model": gateway.served_model, **body, "stream": True},
            headers=plain | dict(headers),
        )
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue  # Nothing was asked of it yet.
        except httpx.HTTPError as error:
            raise Unavailable(f"{gateway.gateway_id} broke off: {type(error).__name__}.") from error
    raise Unavailable(NO_GATEWAY)


async def _refusal(response: httpx.Response) -> Exception:
    """What the gateway says no to, as a problem of this API."""
    said = await _said(response)
    match response.status_code:
        case 429:
            after = response.headers.get("retry-after", "")
            return exceptions.Throttled(int(after) if after.isdigit() else None, said)
        case 400 | 413 | 422:
            return exceptions.ValidationError({"messages": said})
        case status:
            return Unavailable(f"The gateway answered {status}: {said}")


async def _said(response: httpx.Response) -> str:
    text = b""
    async for piece in response.aiter_raw():
        text += piece
        if len(text) > MAX_REFUSAL_BYTES:
            break
    await response.aclose()
    try:
        return str(json.loads(text)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return "it does not say why."
