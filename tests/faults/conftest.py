"""Seeds and the matrix; ``pytest tests/faults --fault-seeds 3 --faults-json FILE`` is the long form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.matrix import Matrix, render, rows_of, write_json

if TYPE_CHECKING:
    from tests.faults.trials import Stage

FIRST_SEED = 101
LEAVERS, LEAVERS_SHORT = 334, 40
NO_CALL = SimpleNamespace(params={})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--fault-seeds", type=int, default=0, help="the long form, with so many seeds per fault")
    group.addoption("--first-seed", type=int, default=FIRST_SEED, help=f"default {FIRST_SEED}")
    group.addoption("--paced-factor", type=int, default=1, help="so many times more on paced engines")
    group.addoption("--head-away-s", type=float, default=0.0, help="case 22: how long Ray's head stays away")
    group.addoption("--faults-json", type=Path, default=None, help="write the matrix there")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Seeds and variants of a case; the long form tries all variants, on paced engines, too."""
    names, config = metafunc.fixturenames, metafunc.config
    if "leavers" in names:
        metafunc.parametrize("leavers", [LEAVERS if is_long(config) else LEAVERS_SHORT])
    if "seed" not in names:
        if "stage" in names:  # the same parameter as for all others, so that they share it
            metafunc.parametrize("stage", ["vllm"], indirect=True)
        return
    variants = getattr(metafunc.function, "variants", ())
    real = is_long(config) or getattr(metafunc.function, "real", False)
    tried = [("vllm" if real else "paced", *each) for each in combinations(config, variants, 1)]
    if "stage" in names and is_long(config):
        factor = option(config, "--paced-factor", 0)
        tried += [("paced", *each) for each in combinations(config, variants, factor)]
    columns = [0] * ("stage" in names) + [1] + [2] * bool(variants)
    kept = ["stage", "seed", "variant"]
    wanted = [kept[column] for column in columns]
    rows = [tuple(row[column] for column in columns) for row in tried]
    # Said, because a row that is not all a fixture's is the test's alone: each would have its own stage.
    scope = "package" if "stage" in names else None
    metafunc.parametrize(wanted, rows, indirect=[n for n in wanted if n == "stage"], scope=scope)


def combinations(config: pytest.Config, variants: Sequence[str], factor: int) -> list[tuple[int, str]]:
    """``(seed, variant)``: as many as there are seeds, and at least every variant once."""
    first = option(config, "--first-seed", FIRST_SEED)
    if not is_long(config):
        return [(first, variants[-1] if variants else "")]
    seeds = factor * option(config, "--fault-seeds", 0)
    count = max(seeds, len(variants)) if seeds else 0
    return [(first + index, variants[index % len(variants)] if variants else "") for index in range(count)]


def is_long(config: pytest.Config) -> bool:
    return bool(option(config, "--fault-seeds", 0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One kind of engine after the other, as the last: both together would not fit a small machine."""
    kinds = {item: getattr(item, "callspec", NO_CALL).params.get("stage", "") for item in items}
    items.sort(key=lambda item: ["", "vllm", "paced"].index(kinds[item]))
    for item in items:
        if kinds[item] == "paced":
            item.add_marker(pytest.mark.paced)


def option(config: pytest.Config, name: str, default: Any) -> Any:
    """Options exist only when this folder is named on the command line."""
    return config.getoption(name, default=default)


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> Iterator[Matrix]:
    yield Matrix(request.node)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    path = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny_model(path)
    return path


@pytest.fixture(scope="package")
def stage(request: pytest.FixtureRequest, tiny_model: Path, redis_url: str) -> Iterator[Stage]:
    """A gateway with agents of real (or paced) engines, shared by all trials."""
    from engine_agents.vllm_engine.frontend import build_front_half
    from tests.faults.site import Site
    from tests.faults.trials import Stage

    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        kind = getattr(request, "param", "vllm")
        site = Site(kind, tiny_model, build_front_half, redis_url, Path(folder))
        yield Stage(site, salts=3 if is_long(request.config) else 1)
        site.close()


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = rows_of(reports)
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(render(rows))
    path = option(config, "--faults-json", None)
    if path is not None:
        write_json(rows, path)
