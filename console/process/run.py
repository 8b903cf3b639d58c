"""One run of the whole stack, from the first check to the last killed process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from django.core.management import call_command
from django.db import DatabaseError, close_old_connections

from console.process import preflight, probes, processes, stack
from console.process.bootstrap import ADMIN, Prepared, prepare_database
from console.process.child import Child
from console.process.engines import stop_agents, wait_for_engines
from console.process.failure import StackError
from console.process.model import make_model
from console.process.options import Options
from console.process.output import Terminal
from console.process.run_directory import RunDirectory
from console.process.supervisor import PROBE_INTERVAL_S, Supervisor
from console.settings import env
from controlplane.fleet.tasks import reconcile_fleet

T = TypeVar("T")

SAME_SIGNAL_S = 1.0
"""A signal to the whole group and one handed on by make are one wish."""

Workload = Callable[[Options, Prepared, dict[str, str]], Child]
"""Makes the child that sends load, once everything serves."""


async def run(options: Options, terminal: Terminal, workload: Workload | None = None) -> int:
    """Bring everything up, keep it up, end it all; returns the exit status.

    0 after SIGINT or SIGTERM, 1 when something could not start or could not be kept alive.
    """
    directory = RunDirectory(options.run_dir, options.state_dir)
    try:
        directory.acquire()
    except StackError as error:
        terminal.say(str(error), style="bold red")
        return 1
    try:
        return await Run(options, terminal, directory, workload).go()
    finally:
        directory.release()


class Run:
    """The order of things; see :func:`run`."""

    def __init__(
        self, options: Options, terminal: Terminal, directory: RunDirectory, workload: Workload | None
    ) -> None:
        self._options, self._terminal, self._directory = options, terminal, directory
        self._workload = workload
        self._started_s = time.monotonic()
        self._stop = asyncio.Event()
        self._told_at_s = 0.0
        self._has_agents = False
        for folder in ("logs", "static"):
            (options.state_dir / folder).mkdir(exist_ok=True)
        self._supervisor = Supervisor(
            terminal, log_dir=options.state_dir / "logs", project_dir=options.project_dir
        )

    async def go(self) -> int:
        self._listen_for_signals()
        processes.adopt_orphans()
        try:
            return await self._serve_until_told()
        except* StackError as errors:
            self._terminal.say(str(_first(errors)), style="bold red")
        finally:
            await self._end()
        return 1

    async def _serve_until_told(self) -> int:
        stop = asyncio.create_task(self._stop.wait())
        serving = asyncio.create_task(self._bring_up())
        failure = self._supervisor.failure
        ends: set[asyncio.Future[Any]] = {stop, failure}
        try:
            await asyncio.wait({serving, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                raise StackError(failure.result())
            return 0
        finally:
            for task in (stop, serving):
                task.cancel()
            await asyncio.gather(stop, serving, return_exceptions=True)

    # ---------------------------------------------------------------- up

    async def _bring_up(self) -> None:
        options = self._options
        environment = self._environment()
        await self._check()
        async with asyncio.TaskGroup() as slow:
            # The slowest start beside the others.
            ray = slow.create_task(self._start_ray(environment))
            if not options.redis_url:
                url = environment["REDIS_URL"]
                await self._step("redis", self._supervisor.start(stack.redis_child(options, url)))
            await self._step("database", asyncio.to_thread(_migrate))
            for each in options.pools:
                await self._step(f"model {each.served_name}", make_model(each))
            prepared = await self._step("pool, tenants, operator", asyncio.to_thread(_prepare, options))
            gateways = self._gateways(environment)
            gateway = slow.create_task(self._supervisor.start_all([child for child, _, _ in gateways]))
            await self._step("console", self._supervisor.start(stack.console_child(options, environment)))
            await self._step("ray", ray)
            await self._step("workers", self._start_workers(environment))
            await wait_for_engines(options, self._terminal)
            await self._step("gateway", self._until_served(gateway, gateways))
        self._directory.note({"console": options.console_url, "gateway": options.gateway_url})
        self._say_where(prepared)
        if self._workload is not None:
            await self._supervisor.start(self._workload(options, prepared, environment))

    async def _check(self) -> None:
        options = self._options
        ports = {"CONSOLE_PORT": options.console_port, "GATEWAY_PORT": options.gateway_port}
        preflight.check_ports(options.host, ports)
        for pool in options.pools:
            if not pool.is_tiny:
                preflight.check_model(pool.model)
        if not options.ignore_memory:
            preflight.check_memory(options.all_engines, options.kv_memory_bytes if not options.gpus else 0)
        if options.redis_url:
            await preflight.check_redis()
        if options.ray_address:
            await preflight.check_ray(options.ray_address)

    async def _start_ray(self, environment: dict[str, str]) -> None:
        if self._options.ray_address:
            return
        port = int(environment["RAY_ADDRESS"].rsplit(":", 1)[1])
        await self._supervisor.start(stack.ray_head_child(self._options, port, environment))
        await self._supervisor.start(stack.ray_node_child(self._options, port, environment))

    def _gateways(self, environment: dict[str, str]) -> list[tuple[Child, Options, str]]:
        """The doors' processes: each with its pool and its own address; the router has none."""
        options = self._options
        if not options.needs_router:
            return [(stack.gateway_child(options, environment), options, options.gateway_url)]
        found = []
        for pool in options.pools:
            for number in range(1, options.gateways + 1):
                port = stack.free_port()
                child = stack.gateway_child(pool, environment, number, port)
                found.append((child, pool, f"http://127.0.0.1:{port}"))
        return [*found, (stack.router_child(options, environment), options, "")]

    async def _until_served(
        self, started: Awaitable[None], gateways: list[tuple[Child, Options, str]]
    ) -> None:
        """Engines are ready by their reports; requests are served once the gateways reach them, too."""
        await started
        deadline_s = time.monotonic() + stack.PATIENCE_S
        for child, pool, url in gateways:
            probe = probes.has_engines(f"{url}/health", pool.engines)
            while url and (problem := await probe()):
                if time.monotonic() > deadline_s:
                    logs = self._options.state_dir / "logs"
                    raise StackError(f"{child.name} is up, but {problem}: see {logs}.")
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def _start_workers(self, environment: dict[str, str]) -> None:
        children = [
            stack.worker_child("loop", "loop", 2, environment),
            stack.worker_child("jobs", "jobs", 4, environment),
        ]
        await self._supervisor.start_all(children)
        await self._supervisor.start(stack.beat_child(self._options, environment))
        if self._options.ray_address:
            await asyncio.to_thread(stop_agents)  # of a run that was killed before it could
        self._has_agents = True
        # Beat would send it in two seconds; nobody wants to wait for that.
        await asyncio.to_thread(reconcile_fleet.delay)
        await self._supervisor.start(stack.worker_child("whatif", "whatif", 1, environment, awaited=False))

    def _environment(self) -> dict[str, str]:
        """What every child gets on top of ours."""
        options = self._options
        scratch = options.run_dir / "tmp"
        scratch.mkdir()
        environment = {
            "REDIS_URL": options.redis_url or f"unix://{options.run_dir / 'redis.sock'}",
            "LLUMDECK_STATE_DIR": str(options.state_dir),
            "TMPDIR": str(scratch),
            "PYTHONUNBUFFERED": "1",
            "VLLM_CACHE_ROOT": env.text("VLLM_CACHE_ROOT", str(options.state_dir / "cache" / "vllm")),
            "VLLM_CONFIG_ROOT": str(options.state_dir / "cache" / "vllm-config"),
            "RAY_ADDRESS": options.ray_address,
            **stack.RAY_ENVIRONMENT,
        }
        if options.allowed_hosts:
            environment["LLUMDECK_ALLOWED_HOSTS"] = options.allowed_hosts
        if not options.ray_address:
            token = self._directory.write_token("ray-token")
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
            environment["RAY_ADDRESS"] = f"127.0.0.1:{stack.free_port()}"
        return environment

    async def _step(self, name: str, work: Awaitable[T]) -> T:
        started_s = time.monotonic()
        with self._terminal.console.status(f"{name} …"):
            result = await work
        self._terminal.say(f"✓ {name} ({time.monotonic() - started_s:.1f} s)", style="green")
        return result

    def _say_where(self, prepared: Prepared) -> None:
        options, key = self._options, prepared.tenant_keys["demo"]
        lines = [
            "",
            f"Llumdeck is up after {time.monotonic() - self._started_s:.0f} s: "
            + ", ".join(f"{pool.engines} engines serve {pool.served_name}" for pool in options.pools)
            + ".",
            f"  console   {options.console_url}",
            f"  gateway   {options.gateway_url}/v1  (OpenAI API)",
        ]
        if prepared.admin_password:
            lines.append(f"  sign in   {ADMIN} / {prepared.admin_password}  (an admin; shown this once)")
        else:
            lines.append(f"  sign in   as before (a new password: manage.py changepassword {ADMIN})")
        lines += [
            f"  tenant    demo, key {key}",
            "",
            "Try it:",
            _curl(options, key),
            "",
            "Ctrl-C stops everything.",
        ]
        self._terminal.say("\n".join(lines))

    # ---------------------------------------------------------------- down

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._told_to_stop)

    def _told_to_stop(self) -> None:
        if not self._stop.is_set():
            self._told_at_s = time.monotonic()
            self._stop.set()
        elif time.monotonic() - self._told_at_s > SAME_SIGNAL_S:
            self._supervisor.hurry()

    async def _end(self) -> None:
        started_s = time.monotonic()
        self._terminal.say("stopping …")
        if self._options.ray_address and self._has_agents:
            with contextlib.suppress(StackError):
                await asyncio.to_thread(stop_agents)
        left = await self._supervisor.stop()
        if left:
            self._terminal.say(f"could not be ended: {', '.join(left)}", style="bold red")
        self._terminal.say(f"everything stopped ({time.monotonic() - started_s:.1f} s)")


def _first(errors: BaseExceptionGroup[StackError]) -> BaseException:
    """What several tasks died of together is told once."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _migrate() -> None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except DatabaseError as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise StackError(f"the database cannot be used ({words[0]}): check DATABASE_URL.") from error
    finally:
        close_old_connections()


def _prepare(options: Options) -> Prepared:
    try:
        return prepare_database(options)
    finally:
        close_old_connections()


def _curl(options: Options, key: str) -> str:
    asked = {"model": options.served_name, "prompt": "Once upon a time", "max_tokens": 40, "stream": True}
    body = json.dumps(asked)
    return (
        f"  curl -N {options.gateway_url}/v1/completions -H 'Authorization: Bearer {key}' \\\n"
        f"    -H 'Content-Type: application/json' -d '{body}'"
    )
