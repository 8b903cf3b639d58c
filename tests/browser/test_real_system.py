"""The paths that matter on the real system: real engines under load, seen and steered by a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import sign_in
from tests.browser.pictures import SCREENS, go, photograph
from tests.browser.stack import PASSWORD
from tests.integration.running import PROJECT, Stack, environment, eventually

pytestmark = [pytest.mark.browser, pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(900)]
ENDS_WITHIN_S = 180.0
TAKES_EFFECT_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("state"), arguments=("--kv-memory-mib", "40"))
    made.start()
    try:
        made.wait_for("Ctrl-C stops everything")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def password(system: Stack) -> str:
    found = re.search(r"sign in   admin / (\S+)  \(an admin; shown this once\)", system.output)
    assert found, system.output
    return found[1]


@pytest.fixture(scope="module")
def page(browser: Browser, system: Stack, password: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 960}, color_scheme="dark")
    made = context.new_page()
    made.set_default_timeout(60_000)
    made.goto(system.console)
    made.get_by_label("User").fill("admin")
    made.get_by_label("Password", exact=True).fill(password)
    made.get_by_role("button", name="Sign in").click()
    expect(made.get_by_role("navigation", name="Pages")).to_be_visible()
    yield made
    context.close()


class Load:
    """A replay beside the test."""

    def __init__(
        self, system: Stack, seconds: int, *options: str, rate: float = 3.0, mix: str = "S-S"
    ) -> None:
        command = [sys.executable, "manage.py", "replay", "--mix", mix, "--rate", str(rate)]
        command += ["--duration", str(seconds), "--every", "5", *options]
        self._process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment(system.state_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def stop(self) -> None:
        """Enough of it, whatever is still open."""
        self._process.terminate()
        self._process.communicate(timeout=ENDS_WITHIN_S)

    def end(self) -> None:
        output, _ = self._process.communicate(timeout=ENDS_WITHIN_S)
        assert self._process.returncode == 0, output


def fleet_row(page: Page, number: int):
    return page.get_by_label("fleet").get_by_role("row").nth(number)


def test_load_arrives_and_an_instance_is_drained_under_it_without_a_failed_stream(system: Stack, page: Page):
    load = Load(system, 12)
    page.goto(f"{system.console}/")
    first = fleet_row(page, 1)
    expect(first).to_contain_text("serving")
    expect(first.get_by_role("cell").nth(4)).not_to_have_text("0")
    name = first.get_by_role("link").first.inner_text()
    page.goto(f"{system.console}/instances/{name}")
    page.get_by_role("button", name=f"Drain {name}…").click()
    page.get_by_role("dialog").get_by_role("button", name=f"Drain {name}").click()
    expect(page.get_by_text("Empty: it can be stopped without any loss.")).to_be_visible(timeout=90_000)
    page.get_by_role("button", name=f"Undrain {name}…").click()
    page.get_by_role("dialog").get_by_role("button", name=f"Undrain {name}").click()
    expect(page.get_by_role("button", name=f"Drain {name}…", exact=True)).to_be_visible()
    load.end()  # The command fails when any request of it failed.


ATTEMPTS = 4


def test_a_running_request_is_moved_by_hand_and_its_life_shows_the_move(system: Stack, page: Page):
    """On a fast machine the longest request may end before a hand is there: then another one is taken."""
    for attempt in range(ATTEMPTS):
        streams = [Streaming(system) for _ in range(3)]
        try:
            move_one(system, page)
            break
        except (AssertionError, PlaywrightError):
            if attempt == ATTEMPTS - 1:
                raise
        finally:
            texts = [stream.text().rstrip() for stream in streams]
            assert all(text.endswith("[DONE]") for text in texts)
    page.goto(f"{system.console}/migrations?by=pair")
    expect(page.get_by_label("moves by pair")).to_contain_text(re.compile("default-. → default-."))
    page.get_by_label("moves by pair").get_by_role("button").first.click()
    expect(page).to_have_url(re.compile("pair=default"))
    expect(page.get_by_label("history", exact=True).get_by_role("row").nth(1)).to_contain_text("by hand")


def move_one(system: Stack, page: Page) -> None:
    page.goto(f"{system.console}/requests")
    row = page.get_by_role("table", name="live requests").get_by_role("row").filter(has_text="decoding").first
    row.get_by_role("link").first.click()
    expect(page.get_by_label("life of the request")).to_be_visible()
    page.get_by_role("button", name="Migrate…").click()
    dialog = page.get_by_role("dialog", name="Migrate a request")
    dialog.get_by_role("combobox", name="To").click(timeout=10_000)
    page.get_by_role("option", name=re.compile("default-")).first.click(timeout=10_000)
    dialog.get_by_role("button", name=re.compile("^Migrate to")).click(timeout=10_000)
    expect(page.get_by_label(re.compile("^move .* to ")).first).to_contain_text("hand over", timeout=15_000)


def test_a_tenants_class_changes_what_its_next_request_is_served_as(system: Stack, page: Page):
    page.goto(f"{system.console}/tenants/demo")
    page.get_by_role("button", name="Change class…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("radio", name=re.compile("interactive")).check()
    dialog.get_by_role("button", name=re.compile("^Serve demo as interactive")).click()
    expect(page.get_by_text("demo is served as interactive from now on.")).to_be_visible()
    # A gateway knows a key's rights for five seconds, and tells of finished requests a moment later.
    deadline = time.monotonic() + TAKES_EFFECT_WITHIN_S
    while not is_served_as_interactive(system, page):
        assert time.monotonic() < deadline, "no request of demo was served as interactive"


def is_served_as_interactive(system: Stack, page: Page) -> bool:
    Streaming(system, tokens=20).text()
    page.goto(f"{system.console}/requests?view=finished&class=interactive&tenant=demo")
    rows = page.get_by_role("table", name="finished requests").get_by_role("row")
    try:
        expect(rows.filter(has_text="demo").first).to_contain_text("interactive", timeout=4_000)
    except AssertionError:
        return False
    return True


def test_the_playground_asks_the_gateway_and_shows_where_the_answer_is_made(system: Stack, page: Page):
    page.goto(f"{system.console}/playground")
    page.get_by_placeholder("Ask something").fill("Once upon a time")
    page.get_by_role("button", name="Send").click()
    made = page.get_by_label("where the answer is made")
    expect(made).to_contain_text(re.compile(r"[1-9]\d*\s*pieces"), timeout=90_000)
    expect(made).to_contain_text(re.compile("default-[12]"))


def test_what_if_compares_two_policies_on_what_was_served(system: Stack, page: Page):
    moved_request(system)  # So that there is something to replay.
    page.goto(f"{system.console}/scheduling/what-if")
    page.get_by_role("button", name="Compare").click()
    result = page.get_by_label("comparison", exact=True)
    expect(result.get_by_label("both policies in numbers")).to_contain_text(
        "First token, p99", timeout=150_000
    )
    expect(result.get_by_role("img", name=re.compile("^First token: "))).to_be_visible()


class Streaming:
    """One long stream, as a client has it."""

    def __init__(self, system: Stack, *, tokens: int = 1_600) -> None:
        body = {"prompt": "Once upon a time", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        listed = json.load(urllib.request.urlopen(self._ask(system, "/v1/models"), timeout=30))
        body["model"] = listed["data"][0]["id"]
        request = self._ask(system, "/v1/completions", json.dumps(body).encode())
        self._answer = urllib.request.urlopen(request, timeout=180)

    @staticmethod
    def _ask(system: Stack, path: str, body: bytes | None = None) -> urllib.request.Request:
        headers = {"Authorization": f"Bearer {system.key}", "Content-Type": "application/json"}
        return urllib.request.Request(system.gateway + path, data=body, headers=headers)

    def text(self) -> str:
        return str(self._answer.read().decode())


def test_a_lost_console_is_said_and_regained(system: Stack, page: Page):
    page.goto(f"{system.console}/")
    expect(fleet_row(page, 1)).to_contain_text("serving")
    system.child("console.asgi").kill()
    expect(page.get_by_role("button", name=re.compile("Drain|Migrate")).first).to_contain_text(
        "waits for the console"
    )
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible(timeout=90_000)
    expect(fleet_row(page, 1)).to_contain_text("serving")


def test_an_owner_signs_in_to_the_own_tenant(system: Stack, browser: Browser, request: pytest.FixtureRequest):
    run_here(system, MAKE_AN_OWNER)
    context = browser.new_context(viewport={"width": 1440, "height": 960}, color_scheme="dark")
    page = context.new_page()
    page.goto(system.console)
    sign_in(page, "otto")
    expect(page.get_by_role("heading", name="globex-docs")).to_be_visible()
    expect(page.get_by_label("how it is served")).to_be_visible()
    if folder := request.config.getoption("--screens"):
        photograph(page, Path(folder), "owner")
    context.close()


def run_here(system: Stack, program: str) -> str:
    """Run a Python program beside the system; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=environment(system.state_dir),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


MAKE_AN_OWNER = f"""
import django
django.setup()
from controlplane.tenancy.models import Tenant
from controlplane.tenancy.services import create_person
tenant = Tenant.objects.get(slug="globex-docs")
create_person(
    username="otto", role="tenant_owner", tenant=tenant, actor="system:test", password={PASSWORD!r}
)
"""


def test_every_screen_opens_on_the_real_system(
    system: Stack, page: Page, browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
):
    """With ``--screens FOLDER`` each is photographed under load, then without Redis; else it has to open."""
    chosen = request.config.getoption("--screens")
    folder = Path(chosen) if chosen else None
    load = Load(system, 240, "--classes", SHARES, "--skew", "8", rate=5.0, mix="M-M") if folder else None
    if load:
        page.wait_for_timeout(18_000)  # The fleet fills on one side, then the loop spreads it.
    names = {"INSTANCE": next(iter(system.instance_states())), "REQUEST": moved_request(system)}
    for name, path in SCREENS.items():
        for word, value in names.items():
            path = path.replace(word, value)
        go(page, path)
        if folder:
            photograph(page, folder, name)
    if load and folder:
        load.stop()
        go(page, "/")
        redis = system.child("redis-server")
        redis.suspend()
        try:
            expect(page.get_by_text("On hold until Redis answers")).to_be_visible()
            page.wait_for_timeout(GREY_AFTER_MS)
            photograph(page, folder, "overview-redis-away")
        finally:
            redis.resume()
        worker = leading_worker(system)
        worker.suspend()
        try:
            expect(page.get_by_text("On hold until the loop ticks")).to_be_visible(timeout=60_000)
            page.wait_for_timeout(GREY_AFTER_MS)
            photograph(page, folder, "overview-loop-down")
        finally:
            worker.resume()
        photograph_first_start(browser, tmp_path, folder)


GREY_AFTER_MS = 14_000
"""Reports are grey then."""


def leading_worker(system: Stack) -> psutil.Process:
    """The process in which the rebalancing loop ticks: the one that its status names."""
    return psutil.Process(int(run_here(system, WHO_LEADS).split(":")[1]))


WHO_LEADS = """
import django
django.setup()
from controlplane.rebalancing.selectors import loop_status
print(loop_status().leader)
"""


def photograph_first_start(browser: Browser, state_dir: Path, folder: Path) -> None:
    """A second system, while its first engines load."""
    system = Stack(state_dir, arguments=("--kv-memory-mib", "40"))
    system.start()
    context = browser.new_context(viewport={"width": 1440, "height": 960}, color_scheme="dark")
    try:
        eventually(lambda: answers(f"{system.console}/healthz"), 300, "a console that answers")
        run_here(system, MAKE_AN_ADMIN)
        page = context.new_page()
        page.goto(system.console)
        sign_in(page, "ada")
        expect(page.get_by_role("heading", name="No engine serves yet")).to_be_visible()
        photograph(page, folder, "first-start")
    finally:
        context.close()
        system.stop()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


MAKE_AN_ADMIN = f"""
import django
django.setup()
from controlplane.tenancy.services import create_person
create_person(username="ada", role="admin", actor="system:test", password={PASSWORD!r})
"""


SHARES = "interactive=0.3,standard=0.5,batch=0.2"


def moved_request(system: Stack) -> str:
    """A request that moved and ended: its life has the most to show; else any that ended."""
    Streaming(system, tokens=20).text()
    moved = (
        "select request_id from rebalancing_requestmigration where state = 'done' order by id desc limit 1"
    )
    ended = "select request_id from records_requestrecord order by id desc limit 1"
    return str(eventually(lambda: system.rows(moved) or system.rows(ended), 60, "a finished request")[0][0])
