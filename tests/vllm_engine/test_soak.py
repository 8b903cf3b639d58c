"""Random moves, recoveries, freezes and reservations under memory pressure: nobody's tokens may differ."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine_agents.engines.port import MoveImpossible
from tests.vllm_engine.harness import PATIENCE_S, Site, copy_stage, prompt_of, reserve

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # hundreds of operations against running engines

REQUESTS = 10
OPERATIONS = 60


@dataclass
class Traveller:
    """One request, wherever it is."""

    name: str
    prompt: list[int]
    options: dict[str, Any]
    expected: list[int]
    site: Site
    dispatch: int = 1
    tokens: list[int] = field(default_factory=list)
    """Tokens made under earlier dispatch numbers."""

    @property
    def engine_id(self) -> str:
        return f"{self.name}#{self.dispatch}"

    @property
    def next_id(self) -> str:
        return f"{self.name}#{self.dispatch + 1}"

    @property
    def over(self) -> bool:
        return self.site.outputs.of(self.engine_id).finish_reason is not None

    def arrived(self, site: Site) -> None:
        """Everything that the old site gave out is kept; from now on only the new site's counts."""
        self.tokens += self.site.outputs.of(self.engine_id).tokens
        self.site, self.dispatch = site, self.dispatch + 1

    def check(self) -> None:
        end = self.site.finished(self.engine_id)
        assert self.tokens + end.tokens == self.expected, self.name
        assert end.finish_reason == "length"


def options_of(rng: random.Random) -> dict[str, Any]:
    options = {"max_tokens": rng.randint(60, 220), "ignore_eos": True, "temperature": 0.0}
    if rng.random() < 0.8:
        options |= {"temperature": 1.0, "seed": rng.randint(0, 999)}
    if rng.random() < 0.5:
        options |= {"presence_penalty": 0.6, "repetition_penalty": 1.2, "min_tokens": 30}
    return options


def move(traveller: Traveller, destination: Site, rng: random.Random) -> None:
    source = traveller.site.engine
    reservation = reserve(traveller.site, destination, traveller.engine_id, traveller.next_id, 1)
    try:
        copied = 0
        for _ in range(rng.randint(1, 3)):
            copied = copy_stage(traveller.site, destination, traveller.engine_id, reservation, copied)
        if rng.random() < 0.2:
            raise MoveImpossible("changed its mind")
        frozen = source.freeze(traveller.engine_id, copied).result(PATIENCE_S)
    except MoveImpossible:
        destination.engine.drop(reservation).result(PATIENCE_S)
        raise
    try:
        destination.engine.extend(reservation, frozen.computed_tokens + 1).result(PATIENCE_S)
        destination.engine.adopt(reservation, frozen).result(PATIENCE_S)
    except MoveImpossible:
        destination.engine.drop(reservation).result(PATIENCE_S)
        source.thaw(traveller.engine_id).result(PATIENCE_S)
        raise
    source.release(traveller.engine_id).result(PATIENCE_S)
    traveller.arrived(destination)


def move_waiting(traveller: Traveller, destination: Site, rng: random.Random) -> None:
    reservation = reserve(traveller.site, destination, traveller.engine_id, traveller.next_id, 1)
    try:
        frozen = traveller.site.engine.withdraw(traveller.engine_id, 0).result(PATIENCE_S)
    except MoveImpossible:
        destination.engine.drop(reservation).result(PATIENCE_S)
        raise
    destination.engine.adopt(reservation, frozen).result(PATIENCE_S)
    traveller.site.engine.release(traveller.engine_id).result(PATIENCE_S)
    traveller.arrived(destination)


def recover(traveller: Traveller, destination: Site, rng: random.Random) -> None:
    traveller.site.engine.abort([traveller.engine_id]).result(PATIENCE_S)
    if traveller.over:
        return
    traveller.arrived(destination)
    destination.add(
        traveller.name,
        traveller.prompt,
        dispatch=traveller.dispatch,
        prior_token_ids=traveller.tokens,
        **traveller.options,
    )


def freeze_and_thaw(traveller: Traveller, destination: Site, rng: random.Random) -> None:
    traveller.site.engine.freeze(traveller.engine_id, 0).result(PATIENCE_S)
    threading.Event().wait(rng.random() * 0.02)
    traveller.site.engine.thaw(traveller.engine_id).result(PATIENCE_S)


def preempt(traveller: Traveller, destination: Site, rng: random.Random) -> None:
    """What the scheduler does when no block is free."""
    serving = traveller.site.engine.serving

    def take_its_blocks() -> None:
        request = serving.scheduler.requests.get(traveller.engine_id)
        if request not in serving.scheduler.running:
            raise MoveImpossible("it does not run")
        serving.scheduler.running.remove(request)
        serving.scheduler._preempt_request(request, time.monotonic())

    serving.thread.call(take_its_blocks).result(PATIENCE_S)


def change_rank(traveller: Traveller, destination: Site, rng: random.Random) -> None:
    traveller.site.engine.set_rank([traveller.engine_id], rng.randint(0, 2)).result(PATIENCE_S)


def attempt(
    act: Callable[[Traveller, Site, random.Random], None],
    traveller: Traveller,
    other: Site,
    rng: random.Random,
) -> bool:
    try:
        act(traveller, other, rng)
    except MoveImpossible:
        return False
    return True


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_whatever_happens_the_tokens_are_those_of_an_undisturbed_run(sites, seed):
    rng = random.Random(seed)
    travellers = []
    for number in range(REQUESTS):
        prompt = prompt_of(rng.choice([20, 300, 900, 1500, 2100]), salt=100 * seed + number)
        options = options_of(rng)
        expected = sites[number % 2].run(f"alone{number}", prompt, **options).tokens
        travellers.append(Traveller(f"t{number}", prompt, options, expected, rng.choice(sites)))
    before = sum(site.engine.load().preemptions_total for site in sites)
    for traveller in travellers:
        traveller.site.add(traveller.name, traveller.prompt, rank=rng.randint(0, 2), **traveller.options)

    # One at least, however fast they are.
    done = sum(attempt(preempt, traveller, traveller.site, rng) for traveller in travellers)
    for _ in range(OPERATIONS):
        going = [traveller for traveller in travellers if not traveller.over]
        if not going:
            break
        traveller = rng.choice(going)
        other = sites[1] if traveller.site is sites[0] else sites[0]
        act = rng.choice([move, move, move, move_waiting, recover, preempt, freeze_and_thaw, change_rank])
        done += attempt(act, traveller, other, rng)

    for traveller in travellers:
        traveller.check()
    preempted = sum(site.engine.load().preemptions_total for site in sites) - before
    assert done >= 3
    assert preempted > 0
