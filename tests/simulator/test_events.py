from __future__ import annotations

import random

from controlplane.simulator import events
from controlplane.simulator.events import EventLog, EventQueue


def test_ties_follow_the_documented_order_not_the_order_of_pushing() -> None:
    kinds = [events.TICK, events.ARRIVAL, events.REPORT, events.MESSAGE, events.STEP]
    queue, happened = EventQueue(), []
    for kind in kinds:
        queue.push(1.0, kind, lambda now, which: happened.append(which), kind)
    queue.push(0.5, events.TICK, lambda now, which: happened.append(which), "earlier")
    while len(queue):
        now, action, argument = queue.pop()
        action(now, argument)
    assert happened == ["earlier", events.STEP, events.MESSAGE, events.REPORT, events.ARRIVAL, events.TICK]


def test_steps_tie_by_engine_the_others_by_order_of_pushing() -> None:
    queue = EventQueue()
    numbers = list(range(20))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        queue.push(1.0, events.STEP, print, number, order=number)
    for number in numbers:
        queue.push(1.0, events.MESSAGE, print, number)
    popped = [queue.pop()[2] for _ in range(40)]
    assert popped == sorted(numbers) + numbers


def test_the_log_s_hash_depends_on_every_row() -> None:
    first, second = EventLog(), EventLog()
    for log in (first, second):
        log.note(1.0, events.ARRIVED, 1, -1)
    assert first.sha256() == second.sha256()
    second.note(1.000001, events.ARRIVED, 1, -1)
    assert first.sha256() != second.sha256()
    assert EventLog().sha256() != first.sha256()
