"""Starts children, waits until they are ready, restarts those that die, ends all in order.

Two promises: nothing is half alive in silence (a child that dies is started again, or
everything ends with a sentence that names it), and when :meth:`Supervisor.stop` returns,
no descendant of this process is left.

Children are started on the main thread: the kernel ties a child's death signal to the
thread that made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from console.process import processes
from console.process.child import Child
from console.process.failure import StackError
from console.process.output import LineWriter, Terminal
from console.process.restarts import Restarts
from console.settings.env import child_environment

PROBE_INTERVAL_S = 0.2
REAP_INTERVAL_S = 2.0
LAST_STAGE = 3
LAST_WORDS_WITHIN_S = 1.0


class Supervisor:
    """The children of one run. Use from one event loop on the main thread."""

    def __init__(self, terminal: Terminal, *, log_dir: Path, project_dir: Path) -> None:
        self._terminal = terminal
        self._log_dir, self._project_dir = log_dir, project_dir
        self._runs: dict[str, _Run] = {}
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Set to a sentence when the stack cannot go on."""
        self._reaper = asyncio.create_task(self._reap())

    async def start(self, child: Child) -> None:
        """Start it and wait until it is ready. Raises :class:`StackError`."""
        log = self._log_dir / f"{child.name}.log"
        run = _Run(child, self._terminal, log=log, project_dir=self._project_dir)
        self._runs[child.name] = run
        await run.spawn()
        await self._until_ready(run)
        run.keeper = asyncio.create_task(self._keep(run))

    async def start_all(self, children: Iterable[Child]) -> None:
        """Several at once. Raises the first :class:`StackError`; the others are ended by :meth:`stop`."""
        await asyncio.gather(*(self.start(child) for child in children))

    async def stop(self) -> list[str]:
        """End everything, stage by stage; returns what could not be killed (nothing, but for the kernel)."""
        for run in self._runs.values():
            run.forget()
        for stage in range(1, LAST_STAGE + 1):
            runs = [run for run in self._runs.values() if run.child.stage == stage]
            await asyncio.gather(*(run.end() for run in runs))
        self._reaper.cancel()
        return await asyncio.to_thread(processes.kill_all, processes.descendants(), wait_s=3.0)

    def hurry(self) -> None:
        """No more grace: the second Ctrl-C."""
        for run in self._runs.values():
            run.kill()

    def pids(self) -> dict[str, int]:
        return {name: run.process.pid for name, run in self._runs.items() if run.process is not None}

    async def _until_ready(self, run: _Run) -> None:
        child, deadline_s = run.child, time.monotonic() + run.child.ready_within_s
        problem = "starting"
        while time.monotonic() < deadline_s:
            if run.has_ended:
                await run.wait()
                raise StackError(run.obituary())
            problem = run.unsaid() or await child.probe()
            if not problem:
                run.is_ready = True
                return
            await asyncio.sleep(PROBE_INTERVAL_S)
        hint = f" {child.hint}" if child.hint else ""
        raise StackError(
            f"{child.name} was not ready within {child.ready_within_s:.0f} s ({problem}); "
            f"its log is {run.log}.{hint}"
        )

    async def _keep(self, run: _Run) -> None:
        restarts = Restarts()
        while True:
            await run.wait()
            pause_s = restarts.pause_after_death(time.monotonic()) if run.child.restartable else None
            if pause_s is None:
                self._give_up(run)
                return
            self._terminal.say(f"{run.obituary()} Starting it again in {pause_s:g} s.", style="bold yellow")
            await asyncio.to_thread(run.bury)
            await asyncio.sleep(pause_s)
            await run.spawn()

    def _give_up(self, run: _Run) -> None:
        why = "too often" if run.child.restartable else "and nothing can go on without it"
        if not self.failure.done():
            self.failure.set_result(f"{run.obituary()} It ended {why}: stopping everything.")

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_INTERVAL_S)
            processes.reap(self.pids().values())


class _Run:
    """One child's present process."""

    def __init__(self, child: Child, terminal: Terminal, *, log: Path, project_dir: Path) -> None:
        self.child, self.log = child, log
        self._project_dir = project_dir
        self.process: asyncio.subprocess.Process | None = None
        self.keeper: asyncio.Task[None] | None = None
        self._terminal = terminal
        self._pump: asyncio.Task[None] | None = None
        self._tail: list[str] = []
        self._spoke_up = False
        self.is_ready = False
        """Its words while it starts are for its log: banners, mostly."""

    async def spawn(self) -> None:
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.child.argv(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=self._project_dir,
                env=child_environment(self.child.environment),
                start_new_session=True,
            )
        except OSError as error:
            raise StackError(f"{self.child.name} could not be started: {error}") from error
        self._pump = asyncio.create_task(self._read(self.process))

    @property
    def has_ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    def unsaid(self) -> str:
        """What its output must hold before it counts as ready, and does not yet."""
        return "" if self._spoke_up or not self.child.ready_line else "it has not said that it is ready"

    async def wait(self) -> None:
        """Until it has ended and been heard out; a grandchild may hold its output open longer."""
        if self.process is not None:
            await self.process.wait()
        if self._pump is not None:
            await asyncio.wait({self._pump}, timeout=LAST_WORDS_WITHIN_S)

    def obituary(self) -> str:
        """Who died of what, with its last words."""
        code = self.process.returncode if self.process else None
        cause = (
            f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
        )
        words = f' Its last line: "{self._tail[-1]}".' if self._tail else ""
        hint = f" {self.child.hint}" if self.child.hint else ""
        return f"{self.child.name} {cause}.{words}{hint} (Log: {self.log})"

    def forget(self) -> None:
        """From now on its death is meant, and its last words are for its log."""
        self.is_ready = False
        if self.keeper is not None:
            self.keeper.cancel()

    async def end(self) -> None:
        """SIGTERM, then SIGKILL to its whole process group after its grace."""
        if self.process is None:
            return
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), self.child.grace_s)
        self.kill()
        await self.wait()

    def kill(self) -> None:
        """Its whole process group, which may outlive it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def bury(self) -> None:
        """What it left running would stand in the way of the next: everything of its session."""
        self.kill()
        if self.process is not None:
            processes.kill_all(processes.of_session(self.process.pid), wait_s=5.0)

    def _heard(self, line: str) -> None:
        self._spoke_up = self._spoke_up or self.child.ready_line in line
        if self.child.shown and self.is_ready:
            self._terminal.child_line(self.child.name, line)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        writer = LineWriter(self.log, self._heard)
        self._tail = writer.tail
        try:
            while data := await process.stdout.read(65536):
                writer.feed(data)
                self._tail = writer.tail
        finally:
            writer.close()
            self._tail = writer.tail
