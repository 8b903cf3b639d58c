"""Any order of any losses: the client sees a prefix of the truth, then all of it, once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.gateway.entries import AbortAt, Effects, Finished, Recover
from controlplane.gateway.journal import Journal
from engine_agents.messages import split_engine_id
from tests.gateway.outputs import PlainEditor, PlainOutput

LENGTH = 12
"""Output tokens of the request: token i is 100 + i."""


@dataclass
class Agent:
    """Runs at most a few incarnations; its messages wait in one ordered connection."""

    name: str
    made: dict[str, int] = field(default_factory=dict)
    """Running incarnations: tokens made so far (prior ones included)."""
    frozen: dict[str, int] = field(default_factory=dict)
    line: deque[tuple[Any, ...]] = field(default_factory=deque)
    alive: bool = True


class World:
    """One request, three agents that obey, connections that lag or break."""

    def __init__(self) -> None:
        self.journal = Journal(PlainEditor())
        self.agents = {name: Agent(name) for name in "abc"}
        self.seen: list[int] = []
        self.ends: list[str] = []
        self.now = 0.0
        self.migrations = 0
        self.journal.open("r")
        self.place()

    def place(self) -> None:
        entry = self.journal.get("r")
        alive = [agent for agent in self.agents.values() if agent.alive]
        if entry is None or entry.owner or not alive:
            return
        agent = alive[entry.issued % len(alive)]
        dispatch = self.journal.assign("r", agent.name)
        agent.made[f"r#{dispatch}"] = len(entry.tokens)

    def take(self, effects: Effects) -> None:
        for output in effects.deliver:
            self.seen.extend(output.new_token_ids)
        for action in effects.actions:
            match action:
                case AbortAt(name, incarnation):
                    self.agents[name].made.pop(incarnation, None)
                    self.agents[name].frozen.pop(incarnation, None)
                case Recover():
                    self.place()
                case Finished(_, outcome):
                    self.ends.append(outcome)

    # ---- what may happen

    def decode(self, agent: Agent, count: int) -> None:
        for incarnation, made in list(agent.made.items()):
            tokens = [100 + i for i in range(made, min(made + count, LENGTH))]
            if not tokens:
                continue
            over = made + len(tokens) >= LENGTH
            agent.line.append(("step", incarnation, made, tokens, "length" if over else None))
            agent.made[incarnation] = made + len(tokens)
            if over:
                del agent.made[incarnation]

    def move(self, source: Agent, destination: Agent, said_first: bool) -> None:
        """Ask, freeze, adopt; the destination's word may be lost when it dies later."""
        for incarnation, made in list(source.made.items()):
            self.migrations += 1
            grant = self.journal.ask_move(source.name, f"m{self.migrations}", incarnation, destination.name)
            if not grant.granted or not destination.alive:
                continue
            del source.made[incarnation]
            source.frozen[incarnation] = made
            adopted = f"r#{grant.next_dispatch}"
            destination.made[adopted] = made
            tokens = [100 + i for i in range(made)]
            if said_first:
                destination.line.append(("adopted", adopted, made, tokens))
                source.frozen.pop(incarnation)
            else:
                self.decode(destination, 1)
                destination.line.append(("adopted", adopted, made, tokens))

    def receive(self, agent: Agent) -> None:
        if not agent.line:
            return
        kind, incarnation, start, tokens, *rest = agent.line.popleft()
        if kind == "step":
            output = PlainOutput("", tokens, rest[0])
            self.take(self.journal.step(agent.name, [incarnation], [start], [output]))
        else:
            self.take(self.journal.adopted(agent.name, incarnation, start, tokens, self.now))

    def break_connection(self, agent: Agent, *, dies: bool) -> None:
        agent.line.clear()
        if dies and sum(a.alive for a in self.agents.values()) > 1:
            agent.alive = False
            agent.made.clear()
            agent.frozen.clear()
        self.take(self.journal.instance_lost(agent.name, self.now))

    def lose_message(self, agent: Agent) -> None:
        if agent.line:
            agent.line.popleft()

    def doubt(self, agent: Agent) -> None:
        for incarnation, made in list(agent.frozen.items()):
            verdict, effects = self.journal.ask_owner("r")
            self.take(effects)
            if verdict == split_engine_id(incarnation)[1]:
                agent.made[incarnation] = made
            agent.frozen.pop(incarnation, None)

    def wait(self) -> None:
        self.now += 2.0
        self.take(self.journal.tick(self.now))
        self.place()

    def invariant(self) -> None:
        assert self.seen == [100 + i for i in range(len(self.seen))], "lost, doubled or wrong token"
        assert len(self.ends) <= 1
        entry = self.journal.get("r")
        assert (entry is None) == bool(self.ends)
        if entry is not None:
            assert entry.tokens == self.seen

    def finish(self) -> None:
        """Fair weather at last: everything sent arrives, the silent are asked again."""
        for _ in range(4 * LENGTH):
            for agent in self.agents.values():
                if agent.alive:
                    self.doubt(agent)
                    self.decode(agent, 1)
                    while agent.line:
                        self.receive(agent)
            self.wait()
            entry = self.journal.get("r")
            if entry is not None and entry.owner:
                owner = self.agents[entry.owner_id]
                if entry.engine_id not in owner.made and not owner.line:
                    self.take(self.journal.revoke("r", "its owner does not run it"))


events = st.lists(
    st.tuples(
        st.sampled_from(["decode", "receive", "receive", "move", "cut", "die", "lose", "doubt", "wait"]),
        st.sampled_from("abc"),
        st.sampled_from("abc"),
        st.integers(1, 3),
    ),
    max_size=40,
)


def play(world: World, kind: str, first: str, second: str, number: int) -> None:
    agent, other = world.agents[first], world.agents[second]
    if not agent.alive:
        return
    match kind:
        case "decode":
            world.decode(agent, number)
        case "receive":
            world.receive(agent)
        case "move":
            world.move(agent, other, said_first=number > 1)
        case "cut" | "die":
            world.break_connection(agent, dies=kind == "die")
        case "lose":
            world.lose_message(agent)
        case "doubt":
            world.doubt(agent)
        case _:
            world.wait()


@settings(max_examples=400, deadline=None)
@given(events)
def test_every_token_once_and_one_end_whatever_happens(history: list[tuple[str, str, str, int]]) -> None:
    world = World()
    for event in history:
        play(world, *event)
        world.invariant()
    world.finish()
    world.invariant()
    assert world.seen == [100 + i for i in range(LENGTH)]
    assert world.ends == ["length"]
