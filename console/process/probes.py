"""Is it ready? One short question each; the answer is a problem in a few words, or nothing."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from console.process.child import Probe, Problem
from controlplane import redis_client

TIMEOUT_S = 2.0
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Our own processes are asked in plain HTTP. Reading the machine's certificates costs more than all else
of a question, and a start asks hundreds while the processes that are asked load."""


def answers_http(url: str) -> Probe:
    """Ready when a GET is answered with any 2xx."""

    async def probe() -> Problem:
        try:
            async with _client() as client:
                response = await client.get(url)
        except httpx.HTTPError as error:
            return f"{url}: {type(error).__name__}"
        return "" if response.is_success else f"{url} answers {response.status_code}"

    return probe


def is_serving(url: str) -> Probe:
    """Ready when a gateway's health no longer says that it is starting; it may still wait for engines."""

    async def probe() -> Problem:
        try:
            async with _client() as client:
                status = (await client.get(url)).json().get("status")
        except (httpx.HTTPError, ValueError) as error:
            return f"{url}: {type(error).__name__}"
        return "it is loading" if status == "starting" else ""

    return probe


def has_engines(url: str, count: int) -> Probe:
    """Ready when a gateway's health lists so many engines that it can use."""

    async def probe() -> Problem:
        try:
            async with _client() as client:
                usable = (await client.get(url)).json().get("instances", [])
        except (httpx.HTTPError, ValueError) as error:
            return f"{url}: {type(error).__name__}"
        return "" if len(usable) >= count else f"it reaches {len(usable)} of {count} engines"

    return probe


async def redis_answers() -> Problem:
    """The Redis of the settings, embedded or not."""
    return await asyncio.to_thread(redis_client.problem)


def listens(host: str, port: int) -> Probe:
    async def probe() -> Problem:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            return f"{host}:{port}: {error or 'no answer in time'}"
        writer.close()
        return ""

    return probe


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, verify=NO_AUTHORITIES)
