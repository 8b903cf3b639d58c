"""The whole system as ``make up`` starts it: real Redis, Ray, vLLM engines, gateway, console, Celery.

The tests of this module share one stack and run in the order they stand in; the last one ends it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.integration import left_behind
from tests.integration.running import (
    PROJECT,
    Stack,
    command_line,
    environment,
    eventually,
    free_ports,
    is_alive,
    manage,
)

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1000)]

TRACE = Path(os.environ.get("LLUMDECK_TRACES", "/nonexistent")) / "azure_llm_2023_conv.csv"
MODEL = "llumdeck-tiny"
HARDER = (1, 2, 4, 8, 16)
"""Times the load that fills one instance of a machine with two slow cores."""


@pytest.fixture(scope="module")
def machine_before() -> dict[str, set[str]]:
    return {name: look() for name, look in left_behind.LOOKS.items()}


@pytest.fixture(scope="module")
def stack(machine_before: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("state"))
    stack.start()
    try:
        stack.wait_for("Ctrl-C stops everything")
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{stack.gateway}/v1", api_key=stack.key, max_retries=0, timeout=120
    ) as client:
        yield client


@contextmanager
def signed_in(stack: Stack, name: str = "admin", password: str = "") -> Iterator[httpx.Client]:
    printed = re.search(r"sign in   admin / (\S+)  \(an admin; shown this once\)", stack.output)
    assert printed, stack.output
    with httpx.Client(base_url=stack.console, timeout=60) as page:
        page.get("/login/")
        page.headers["X-CSRFToken"] = page.cookies["csrftoken"]
        answer = page.post("/api/v1/session", json={"username": name, "password": password or printed[1]})
        assert answer.status_code == 200, answer.text
        page.headers["X-CSRFToken"] = page.cookies["csrftoken"]
        yield page


def test_the_end_of_the_output_says_where_and_how(stack: Stack) -> None:
    assert f"console   {stack.console}" in stack.output
    assert f"gateway   {stack.gateway}/v1" in stack.output
    assert "2 engines serve llumdeck-tiny" in stack.output
    assert stack.key in stack.output


def test_the_curl_line_works_as_it_is_printed(stack: Stack) -> None:
    line = stack.output[stack.output.index("  curl -N") : stack.output.index("Ctrl-C stops")]
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
    assert '"text"' in done.stdout and done.stdout.rstrip().endswith("data: [DONE]")


def test_the_openai_client_works(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    text = client.completions.create(model=MODEL, prompt="Once", max_tokens=12, temperature=0)
    assert text.usage is not None and text.usage.completion_tokens == 12
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=12,
        temperature=0,
        stream=True,
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=12, temperature=0
    )
    assert streamed == whole.choices[0].message.content


def test_bad_requests_get_clear_errors(stack: Stack, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        client.completions.create(model="no-such-model", prompt="x", max_tokens=1)
    with pytest.raises(openai.BadRequestError, match="4096"):
        client.completions.create(model=MODEL, prompt=[100] * 5000, max_tokens=1)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key="wrong", max_retries=0).models.list()
    answer = httpx.post(
        f"{stack.gateway}/v1/completions",
        content=b'{"model": ',
        headers={"Authorization": f"Bearer {stack.key}", "Content-Type": "application/json"},
    )
    assert answer.status_code == 400 and "JSON" in answer.json()["error"]["message"]


def test_a_tenant_made_in_the_console_is_held_to_its_limits_and_its_use_is_booked(stack: Stack) -> None:
    with (
        signed_in(stack) as page,
        httpx.Client(base_url=stack.gateway, timeout=120, headers={"X-Request-ID": "limited"}) as door,
    ):

        def write(path: str, **fields: object) -> dict[str, Any]:
            answer = page.post(f"/api/v1/{path}", json={"reason": "a trial", **fields})
            assert answer.is_success, answer.text
            return dict(answer.json())

        def ask() -> httpx.Response:
            return door.post("/v1/completions", json={"model": MODEL, "prompt": "x", "max_tokens": 2})

        write("tenants", slug="acme", name="Acme", slo_class="batch")
        key = write("tenants/acme/keys", name="app")
        door.headers["Authorization"] = f"Bearer {key['key']}"
        write("tenants/acme/limits", requests_per_minute=1)
        served = ask()
        assert served.status_code == 200 and served.headers["x-slo-class"] == "batch"
        refused = ask()
        assert refused.status_code == 429, refused.text
        assert refused.headers["x-ratelimit-limit-name"] == "tenant.requests_per_minute"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        write("tenants/acme/limits", requests_per_minute=100_000)
        eventually(lambda: ask().status_code == 200, 60, "the higher limit")
        rotated = write(f"tenants/acme/keys/{key['id']}/rotate", overlap_hours=1)
        assert ask().status_code == 200, "the old one works on"
        write(f"tenants/acme/keys/{key['id']}/revoke")
        eventually(lambda: ask().status_code == 401, 60, "the refusal of the revoked key")
        door.headers["Authorization"] = f"Bearer {rotated['key']}"
        assert ask().status_code == 200

        def booked() -> int:
            rows = page.get("/api/v1/usage", params={"tenant": "acme", "by": "key"}).json()["results"]
            return sum(row["requests"] for row in rows) if len(rows) == 2 else 0

        eventually(lambda: booked() >= 4, 60, "the use of both keys in the books")


def test_the_page_and_its_api_are_there_for_the_operator_alone(stack: Stack) -> None:
    assert httpx.get(f"{stack.console}/readyz").json()["status"] == "ready"
    assert httpx.get(f"{stack.console}/api/v1/instances").status_code in {401, 403}
    with signed_in(stack) as page:
        assert "<div id=" in page.get("/").text
        instances = page.get("/api/v1/instances").json()["results"]
    assert {each["instance_id"]: each["state"] for each in instances} == {
        "default-1": "ready",
        "default-2": "ready",
    }


@pytest.mark.parametrize("words", ["console.asgi", "loop@", "jobs@", "celery beat"])
def test_the_control_plane_has_not_loaded_torch(stack: Stack, words: str) -> None:
    mapped = Path(f"/proc/{stack.child(words).pid}/maps").read_text()
    assert "libtorch" not in mapped and "/vllm/" not in mapped


def test_a_second_start_is_told_what_to_do(stack: Stack, tmp_path: Path) -> None:
    second = manage(stack.state_dir, "up", timeout_s=60)
    assert second.returncode == 1
    assert (
        f"already runs on this state (pid {stack.process.pid}, console at {stack.console})" in second.stdout
    )
    ports = ("--console-port", str(stack.console_port), "--gateway-port", str(stack.gateway_port))
    beside = manage(tmp_path, "up", *ports, timeout_s=60)
    assert beside.returncode == 1
    assert f"port {stack.console_port} is taken by" in beside.stdout and "CONSOLE_PORT=" in beside.stdout


def test_a_skewed_load_is_levelled_by_migrations_and_no_request_fails(stack: Stack) -> None:
    for harder in HARDER:  # until one instance is too full for this machine's speed
        load = (
            ("--trace", str(TRACE), "--speed", str(4 * harder), "--scale", "1")
            if TRACE.exists()
            else ("--mix", "L-L", "--rate", str(8 * harder))
        )
        how = ("--duration", "8", "--skew", "8", "--classes", "standard=0.7,batch=0.3")
        assert stack.replay(*load, *how)["classes"]["all"]["failed"] == 0
        moved = stack.rows(
            "select source, destination, rule, json_array_length(stages), downtime_ms, tokens_moved "
            "from rebalancing_requestmigration where state = 'done' and rule != 'manual'"
        )
        if any(tokens for *_, tokens in moved):  # one that is preempted on the way goes on without its cache
            break
    assert any(tokens for *_, tokens in moved), moved
    for source, destination, rule, stages, downtime_ms, _ in moved:
        assert source != destination and rule
        assert stages >= 1 and downtime_ms > 0


def test_each_engine_gives_its_own_metrics_under_vllms_names(stack: Stack) -> None:
    """The tests before have asked both for tokens; agents tell their metrics every ten seconds."""
    with signed_in(stack) as page:
        targets = page.get("/metrics/targets/instances").json()
        assert [each["labels"]["instance"] for each in targets] == ["default-1", "default-2"]

        def counted() -> list[str]:
            texts = [page.get(each["labels"]["__metrics_path__"]).text for each in targets]
            found = re.findall(r"^vllm:time_to_first_token_seconds_count\{.*\} (\d+)", "\n".join(texts), re.M)
            return found if sum(map(int, found)) > 0 else []

        assert len(eventually(counted, 60, "the engines' own metrics")) == 2


def test_draining_under_load_fails_no_request(stack: Stack) -> None:
    with concurrent.futures.ThreadPoolExecutor() as threads, signed_in(stack) as page:
        load = threads.submit(stack.replay, "--mix", "M-M", "--rate", "2", "--duration", "6", "--seed", "2")
        stack.wait_for_requests(3)
        answer = page.post("/api/v1/instances/default-1/drain", json={"reason": "a test"})
        assert answer.status_code < 300, answer.text
        eventually(lambda: stack.instance_states()["default-1"] == "drained", 120, "draining")
        assert load.result(300)["classes"]["all"]["failed"] == 0
        assert page.post("/api/v1/instances/default-1/undrain", json={"reason": "done"}).status_code < 300
    eventually(lambda: stack.instance_states()["default-1"] == "ready", 60, "undraining")


@pytest.mark.parametrize("name", ["console", "loop", "jobs", "beat"])
def test_a_killed_child_is_started_again_and_said_so(stack: Stack, name: str) -> None:
    words = {"console": "console.asgi", "loop": "loop@", "jobs": "jobs@", "beat": "celery beat"}
    victim = stack.child(words[name])
    victim.kill()
    stack.wait_for(rf"{name} was killed by SIGKILL.*again", 60)
    eventually(lambda: any(words[name] in command_line(each) for each in stack.processes()), 60, "a restart")
    eventually(lambda: _answers(f"{stack.console}/healthz"), 120, "the console's answer")


def test_requests_survive_the_death_of_redis(stack: Stack, client: openai.OpenAI) -> None:
    stack.child("redis-server").kill()
    text = client.completions.create(model=MODEL, prompt="Once", max_tokens=8)
    assert text.usage is not None and text.usage.completion_tokens >= 1
    eventually(lambda: _answers(f"{stack.console}/readyz"), 120, "Redis' return")


def test_ray_s_head_comes_back_and_knows_its_engines(stack: Stack) -> None:
    """Case 22 on the whole stack: everything of the head's is killed at once."""
    engines = {each.pid for each in stack.processes() if "EngineAgent" in command_line(each)}
    head = os.getsid(stack.child("gcs_server").pid)
    for process in stack.processes():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == head:
                process.kill()
    stack.wait_for("ray was killed by SIGKILL.* Starting it again", 60)
    stack.replay("--mix", "S-S", "--rate", "2", "--duration", "5")

    def answers() -> bool:
        return '"says": "2' in manage(stack.state_dir, "doctor", "--json").stdout

    eventually(answers, 300, "Ray's head to answer again")
    assert engines == {each.pid for each in stack.processes() if "EngineAgent" in command_line(each)}


@pytest.fixture(scope="module")
def second_gateway(stack: Stack) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Told to start: it loads for as long as an engine that is started anew."""
    (port,) = free_ports(1)
    words = ["-m", "controlplane.gateway", "--pool", "default", "--port", str(port), "--grace-s", "120"]
    gateway = subprocess.Popen([sys.executable, *words], cwd=PROJECT, env=environment(stack.state_dir))
    try:
        yield gateway, f"http://127.0.0.1:{port}"
    finally:
        gateway.kill()
        gateway.wait()


def test_requests_survive_the_death_of_an_engine(
    stack: Stack, second_gateway: tuple[subprocess.Popen[bytes], str]
) -> None:
    """The head that came back in the test before starts it anew."""
    victim = int(stack.rows("select pid from fleet_instance where instance_id = 'default-2'")[0][0])
    with concurrent.futures.ThreadPoolExecutor() as threads:
        load = threads.submit(stack.replay, "--mix", "M-M", "--rate", "2", "--duration", "10")
        stack.wait_for_requests(3)
        os.kill(victim, signal.SIGKILL)
        assert load.result(300)["classes"]["all"]["failed"] == 0

    def is_back() -> bool:
        pid, state = stack.rows("select pid, state from fleet_instance where instance_id = 'default-2'")[0]
        return pid != victim and state == "ready"

    eventually(is_back, 240, "the engine's return")


def test_a_gateway_told_to_end_finishes_its_streams(
    stack: Stack, second_gateway: tuple[subprocess.Popen[bytes], str]
) -> None:
    """Case 28."""
    gateway, url = second_gateway
    eventually(lambda: serves(url, engines=2), 300, "the second gateway")
    asked = {"model": MODEL, "prompt": "Once", "max_tokens": 300, "ignore_eos": True, "stream": True}
    headers = {"Authorization": f"Bearer {stack.key}"}
    with httpx.stream("POST", f"{url}/v1/completions", json=asked, headers=headers, timeout=120) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if line)
        gateway.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    texts = [json.loads(line.removeprefix("data: ")) for line in (first, *rest[:-1])]
    assert texts[-1]["choices"][0]["finish_reason"] == "length"
    assert gateway.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def serves(url: str, *, engines: int) -> bool:
    try:
        return len(httpx.get(f"{url}/health", timeout=5).json().get("instances", [])) >= engines
    except (httpx.HTTPError, ValueError):
        return False


def test_the_doctor_finds_the_stack_well(stack: Stack) -> None:
    done = manage(stack.state_dir, "doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, [each for each in found["findings"] if each["level"] == "fail"]


def test_ctrl_c_leaves_nothing_behind(stack: Stack, machine_before: dict[str, set[str]]) -> None:
    run_dir = Path(command_line(stack.child("redis-server")).rpartition("unixsocket:")[2]).parent
    assert run_dir.name.startswith("llumdeck-") and left_behind.sockets_under(run_dir)
    living = stack.processes()
    assert len(living) > 10
    shared = left_behind.shared_memory_of(living)
    assert stack.stop(signal.SIGINT) == 0, stack.output
    assert "everything stopped" in stack.output
    assert [command_line(each) for each in living if is_alive(each)] == []
    assert left_behind.sockets_under(run_dir) == []
    assert not run_dir.exists()
    assert [path for path in shared if path.exists()] == []
    for name, look in left_behind.LOOKS.items():
        assert look() - machine_before[name] == set(), name


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
