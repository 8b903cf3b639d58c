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

LENGTH = 20
"""Output tokens of the request: token i is 100 + i."""


@dataclass
class Agent:
    """Runs at most a few incarnations; its messages wait in one ordered connection."""

    name: str
    made: dict[str, int] = field(default_factory=dict)
    """Running incarnations: tokens made so far (prior ones included)."""
    frozen: dict[str, int] = field(default_factory=dict)
    granted: dict[str, tuple[int, str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Aborted before they came: an agent remembers these."""
    line: deque[tuple[Any, ...]] = field(default_factory=deque)
    inbox: deque[tuple[str, str, int]] = field(default_factory=deque)
    """Adds and aborts on their way to it."""
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
        self.lossy = False
        """A message vanished from a connection that did not break; links notice that by counting."""
        self.journal.open("r")
        self.place()

    def place(self) -> None:
        entry = self.journal.get("r")
        alive = [agent for agent in self.agents.values() if agent.alive]
        if entry is None or entry.owner or not alive:
            return
        agent = alive[entry.issued % len(alive)]
        dispatch = self.journal.assign("r", agent.name)
        agent.inbox.append(("add", f"r#{dispatch}", len(entry.tokens)))

    def take(self, effects: Effects) -> None:
        for output in effects.deliver:
            self.seen.extend(output.new_token_ids)
        for action in effects.actions:
            match action:
                case AbortAt(name, incarnation):
                    self.agents[name].inbox.append(("abort", incarnation, 0))
                case Recover():
                    self.place()
                case Finished(_, outcome):
                    self.ends.append(outcome)

    # ---- what may happen

    def obey(self, agent: Agent) -> None:
        while agent.inbox:
            order, incarnation, made = agent.inbox.popleft()
            if order == "add" and incarnation not in agent.refused:
                agent.made[incarnation] = made
            elif order == "abort":
                agent.made.pop(incarnation, None)
                agent.frozen.pop(incarnation, None)
                agent.refused.add(incarnation)

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

    def ask(self, source: Agent, destination: Agent) -> None:
        """RESERVE: a dispatch number for the destination; the source decodes on."""
        for incarnation in source.made:
            self.migrations += 1
            grant = self.journal.ask_move(source.name, f"m{self.migrations}", incarnation, destination.name)
            if grant.granted:
                source.granted[incarnation] = (grant.next_dispatch, destination.name)

    def hand_over(self, source: Agent, said_first: bool) -> None:
        """Freeze and COMMIT: the destination adopts, in whatever order it says so."""
        for incarnation, (dispatch, name) in list(source.granted.items()):
            made = source.made.get(incarnation)
            destination = self.agents[name]
            del source.granted[incarnation]
            if made is None or not destination.alive or f"r#{dispatch}" in destination.refused:
                continue
            del source.made[incarnation]
            source.frozen[incarnation] = made
            adopted = f"r#{dispatch}"
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
        agent.inbox = deque(order for order in agent.inbox if order[0] == "abort")
        if dies and sum(a.alive for a in self.agents.values()) > 1:
            agent.alive = False
            agent.made.clear()
            agent.frozen.clear()
        self.take(self.journal.instance_lost(agent.name, self.now))

    def lose_message(self, agent: Agent) -> None:
        agent.line.popleft()
        self.lossy = True

    def repeat_message(self, agent: Agent) -> None:
        agent.line.append(agent.line[0])

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

    def nobody_runs_it(self) -> bool:
        entry = self.journal.get("r")
        if entry is None or not entry.owner:
            return False
        owner = self.agents[entry.owner_id]
        return entry.engine_id not in owner.made and not owner.line and not owner.inbox

    def finish(self) -> None:
        """Fair weather at last: everything sent arrives, the silent are asked again."""
        idle = 0
        for _ in range(4 * LENGTH):
            for agent in self.agents.values():
                if agent.alive:
                    self.obey(agent)
                    self.doubt(agent)
                    self.decode(agent, 1)
                    while agent.line:
                        self.receive(agent)
            self.wait()
            idle = idle + 1 if self.nobody_runs_it() else 0
            if idle > 4:
                assert self.lossy, "nobody runs it, and nothing was lost that could explain it"
                self.take(self.journal.revoke("r", "its owner does not run it"))


WEIGHTED = [
    *["decode"] * 5,
    *["receive"] * 6,
    *["ask"] * 3,
    *["hand over"] * 3,
    *["obey"] * 4,
    *["cut", "die", "lose", "repeat", "doubt", "wait"],
]
events = st.lists(
    st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 5), st.integers(0, 2), st.integers(1, 3)),
    min_size=10,
    max_size=80,
)


def concerned(world: World, kind: str) -> list[Agent]:
    """Those to whom this can happen: otherwise most of a history would be nothing."""
    alive = [agent for agent in world.agents.values() if agent.alive]
    match kind:
        case "decode" | "ask":
            return [agent for agent in alive if agent.made]
        case "receive" | "lose" | "repeat":
            return [agent for agent in alive if agent.line]
        case "obey":
            return [agent for agent in alive if agent.inbox]
        case "hand over":
            return [agent for agent in alive if agent.granted]
        case "doubt":
            return [agent for agent in alive if agent.frozen]
        case _:
            return alive


def play(world: World, kind: str, which: int, other: int, number: int) -> None:
    agents = concerned(world, kind)
    if not agents:
        return
    agent = agents[which % len(agents)]
    match kind:
        case "decode":
            world.decode(agent, number)
        case "receive":
            world.receive(agent)
        case "ask":
            world.ask(agent, list(world.agents.values())[other])
        case "hand over":
            world.hand_over(agent, said_first=number > 1)
        case "cut" | "die":
            world.break_connection(agent, dies=kind == "die")
        case "lose":
            world.lose_message(agent)
        case "repeat":
            world.repeat_message(agent)
        case "obey":
            world.obey(agent)
        case "doubt":
            world.doubt(agent)
        case _:
            world.wait()


@settings(max_examples=400, deadline=None, derandomize=True)
@given(events)
def test_every_token_once_and_one_end_whatever_happens(history: list[tuple[str, int, int, int]]) -> None:
    world = World()
    for event in history:
        play(world, *event)
        world.invariant()
    world.finish()
    world.invariant()
    assert world.seen == [100 + i for i in range(LENGTH)]
    assert world.ends == ["length"]
