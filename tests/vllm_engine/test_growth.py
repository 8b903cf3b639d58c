"""However a request ends on a real engine, nothing of it stays: neither with us nor in vLLM."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from engine_agents.engines.port import MoveImpossible
from tests.census import census, grown
from tests.vllm_engine.harness import EVERYTHING, PATIENCE_S, Site, move, prompt_of, reserve

TIMES = 8
"""Of each way to end: what keeps one entry per request of any way grows by so much at least."""
LONG = {"max_tokens": 400, "ignore_eos": True}
BEYOND_ALL_TOKENS = 10**6
CACHED = "vllm.v1.core.block_pool.BlockHashToBlockMap"
"""Blocks of prompts that may come again: as many as there is memory for."""


def test_an_engine_is_as_large_after_more_requests(sites: list[Site]) -> None:
    serve(sites, "warm-up")
    before = census()
    serve(sites, "counted")
    deadline = time.monotonic() + PATIENCE_S
    while more := grown_but_the_cache(before):
        assert time.monotonic() < deadline, more
        time.sleep(0.1)


def grown_but_the_cache(before: Counter[str]) -> dict[str, int]:
    more = grown(before, census(), TIMES // 2)
    return {name: by for name, by in more.items() if not name.startswith(CACHED)}


def serve(sites: list[Site], name: str) -> None:
    """As many requests of each way to end, with the same prompts every time: blocks stay cached."""
    a, b = sites
    for number in range(TIMES):
        for way in (finish, finish_with_everything, abort, abort_at_once, recover, move_over, drop, refuse):
            way(a, b, f"{name}-{way.__name__}-{number}", prompt_of(40, number))
    for site in sites:
        site.wait_idle()
        site.outputs.forget()
        # Somebody collects now and then; until then, what metrics need of finished requests waits.
        site.engine.metrics()


def finish(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    a.run(name, prompt, max_tokens=4, ignore_eos=True)


def finish_with_everything(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    a.run(name, prompt, max_tokens=4, ignore_eos=True, **EVERYTHING)


def abort(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    a.engine.abort([running(a, name, prompt)]).result(PATIENCE_S)


def abort_at_once(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    a.engine.abort([a.add(name, prompt, **LONG)]).result(PATIENCE_S)


def recover(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    a.run(name, prompt, dispatch=2, prior_token_ids=[5, 6, 7], max_tokens=8, ignore_eos=True, seed=3)


def move_over(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    move(a, b, running(a, name, prompt), f"{name}#2")
    b.engine.abort([f"{name}#2"]).result(PATIENCE_S)


def drop(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    held = reserve(a, b, engine_id := running(a, name, prompt), f"{name}#2", 100)
    b.engine.drop(held).result(PATIENCE_S)
    a.engine.abort([engine_id]).result(PATIENCE_S)


def refuse(a: Site, b: Site, name: str, prompt: list[int]) -> None:
    engine_id = running(a, name, prompt)
    with pytest.raises(MoveImpossible):
        reserve(a, b, engine_id, f"{name}#2", BEYOND_ALL_TOKENS)
    a.engine.abort([engine_id]).result(PATIENCE_S)


def running(site: Site, name: str, prompt: list[int]) -> str:
    """A request that has begun; its engine id."""
    engine_id = site.add(name, prompt, **LONG)
    site.at_least(engine_id, 2)
    return engine_id
