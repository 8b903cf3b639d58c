"""Failpoints: named places where a test can make a thing go wrong at exactly that moment.

Off unless the agent's configuration says otherwise, which the production profile
refuses; then each place costs one call that looks whether a table is empty. One
table per process, as the faults are of the process.

A rule is ``point:action[=seconds][@nth]``, several are parted by commas:

* ``point``: ``source.commit`` (before that action of the source's table),
  ``source.commit.done`` (after it), the same with ``destination``;
  ``transfer.chunk`` (the bytes of a chunk), ``engine.step``.
* ``action``: ``kill`` and ``stop`` (real signals to this process; ``=0.05`` sends
  them so much later, while things go on), ``delay=2.0`` (that task alone),
  ``drop`` (the action is left out: a lost message), ``corrupt`` (one bit),
  ``truncate`` (half of it), ``raise``.
* ``@3``: the third time only; without it every time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass

logger = logging.getLogger(__name__)

ACTIONS = frozenset({"kill", "stop", "delay", "drop", "corrupt", "truncate", "raise"})
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
PERMITTED = "permitted"
"""As the configured rules: nothing goes wrong from the start, but rules may be set at run time."""
_RULE = re.compile(r"(?P<point>[a-z_.]+):(?P<action>[a-z]+)(=(?P<seconds>\d+(\.\d+)?))?(@(?P<nth>[1-9]\d*))?")


class FailpointError(Exception):
    """What the action ``raise`` raises."""


@dataclass(frozen=True, slots=True)
class Rule:
    point: str
    action: str
    seconds: float = 0.0
    nth: int = 0
    """0: every time."""


_rules: dict[str, list[Rule]] = {}
hits: Counter[str] = Counter()
"""How often each point that has a rule was reached, since the rules were set."""


def parse(text: str) -> list[Rule]:
    """Raises ``ValueError`` naming what cannot be read."""
    rules = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = _RULE.fullmatch(word)
        if found is None or found["action"] not in ACTIONS:
            raise ValueError(
                f"failpoints: {word!r} is not point:action[=seconds][@nth]"
                f" with one of {', '.join(sorted(ACTIONS))}"
            )
        seconds = float(found["seconds"] or 0.0)
        rules.append(Rule(found["point"], found["action"], seconds, int(found["nth"] or 0)))
    return rules


def arm(text: str) -> None:
    """Set these rules in the place of all others; an empty text ends all. Raises ``ValueError``."""
    rules = parse("" if text == PERMITTED else text)
    hits.clear()
    _rules.clear()
    for rule in rules:
        _rules.setdefault(rule.point, []).append(rule)
    if rules:
        logger.warning("failpoints are armed: %s", text)


def armed(point: str) -> bool:
    """Whether anything may go wrong there: what is costly to prepare is left out otherwise."""
    return point in _rules


async def reach(point: str, *names: str) -> bool:
    """On the event loop; true: leave out what was about to be done. Raises :class:`FailpointError`."""
    if not _rules:
        return False
    due = _due(_name(point, names))
    for rule in due:
        if rule.action == "delay":
            await asyncio.sleep(rule.seconds)
    return _strike(due)


def pass_by(point: str, *names: str) -> bool:
    """The same where nothing can be awaited: a delay holds up the thread."""
    if not _rules:
        return False
    due = _due(_name(point, names))
    for rule in due:
        if rule.action == "delay":
            time.sleep(rule.seconds)
    return _strike(due)


def altered(point: str, data: bytes) -> bytes:
    """The bytes as they are to be sent."""
    if not _rules:
        return data
    for rule in _due(point):
        if rule.action == "corrupt" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
        elif rule.action == "truncate":
            data = data[: len(data) // 2]
        else:
            _strike([rule])
    return data


def _name(point: str, names: tuple[str, ...]) -> str:
    return ".".join((point, *names)).replace(" ", "_")


def _due(point: str) -> list[Rule]:
    rules = _rules.get(point)
    if not rules:
        return []
    hits[point] += 1
    return [rule for rule in rules if rule.nth in (0, hits[point])]


def _strike(rules: list[Rule]) -> bool:
    for rule in rules:
        if rule.action in SIGNALS:
            _signal(rule)
        elif rule.action == "raise":
            raise FailpointError(f"failpoint {rule.point}")
    return any(rule.action == "drop" for rule in rules)


def _signal(rule: Rule) -> None:
    logger.warning("failpoint %s: %s", rule.point, rule.action)
    if not rule.seconds:
        os.kill(os.getpid(), SIGNALS[rule.action])
        return
    timer = threading.Timer(rule.seconds, os.kill, (os.getpid(), SIGNALS[rule.action]))
    timer.daemon = True
    timer.start()
