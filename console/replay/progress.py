"""How a replay is going: bars on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console.replay.client import Felt
from console.replay.report import Spread


class Tally:
    """Counts what was sent and answered."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.sent = 0
        self.answered = 0
        self.failed = 0
        self._recent: list[Felt] = []

    def count_sent(self) -> None:
        self.sent += 1

    def count_answer(self, felt: Felt) -> None:
        self.answered += 1
        self.failed += bool(felt.failure)
        self._recent.append(felt)

    def line(self) -> str:
        """Since the last line: how many, how fast; and how many are open and have failed in all."""
        recent, self._recent = self._recent, []
        ttft = Spread.of(each.ttft_ms for each in recent if not each.failure)
        tokens = sum(each.got_tokens for each in recent)
        felt = "" if ttft.p50 is None else f", TTFT P50 {ttft.p50:,.0f} ms P99 {ttft.p99:,.0f} ms"
        return (
            f"{len(recent)} answered ({tokens:,} tokens){felt}; "
            f"{self.sent - self.answered} open, {self.failed} failed of {self.answered} in all"
        )


@asynccontextmanager
async def shown(tally: Tally, console: Console, every_s: float) -> AsyncIterator[None]:
    """Show ``tally`` while the body runs: a line every ``every_s``, or bars when that is 0."""
    work = _lines(tally, console, every_s) if every_s else _bars(tally, console)
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _lines(tally: Tally, console: Console, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        console.print(tally.line(), soft_wrap=True)


async def _bars(tally: Tally, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sent = progress.add_task("sent", total=tally.total)
        answered = progress.add_task("answered", total=tally.total)
        try:
            while True:
                await asyncio.sleep(0.1)
                _move_bars(progress, sent, answered, tally)
        finally:
            _move_bars(progress, sent, answered, tally)


def _move_bars(progress: Progress, sent: int, answered: int, tally: Tally) -> None:
    failed = f" ({tally.failed} failed)" if tally.failed else ""
    progress.update(sent, completed=tally.sent)  # type: ignore[arg-type]
    progress.update(answered, completed=tally.answered, description=f"answered{failed}")  # type: ignore[arg-type]
