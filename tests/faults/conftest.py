"""Seeds and the matrix; ``pytest tests/faults --fault-seeds 3 --faults-json FILE`` is the long form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.matrix import Matrix, render, rows_of, write_json

if TYPE_CHECKING:
    from tests.faults.trials import Stage

FIRST_SEED = 101
LEAVERS, LEAVERS_SHORT = 1000, 40


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--fault-seeds", type=int, default=0, help="the long form, with so many seeds per fault")
    group.addoption("--first-seed", type=int, default=FIRST_SEED, help=f"default {FIRST_SEED}")
    group.addoption("--paced-factor", type=int, default=1, help="so many times more on paced engines")
    group.addoption("--faults-json", type=Path, default=None, help="write the matrix there")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seed`` runs once per seed; the long form adds paced engines to ``stage``."""
    first = option(metafunc.config, "--first-seed", FIRST_SEED)
    count = option(metafunc.config, "--fault-seeds", 0)
    names, long_form = metafunc.fixturenames, count > 0
    seeds = range(first, first + max(1, count))
    if "stage" in names and "seed" in names:
        paced = range(first, first + count * option(metafunc.config, "--paced-factor", 0))
        both = [("vllm", seed) for seed in seeds] + [("paced", seed) for seed in paced]
        metafunc.parametrize(("stage", "seed"), both, indirect=["stage"], scope="session")
    elif "seed" in names:
        metafunc.parametrize("seed", seeds)
    if "leavers" in names:
        metafunc.parametrize("leavers", [LEAVERS if long_form else LEAVERS_SHORT])
    variants = getattr(metafunc.function, "variants", ())
    if variants:
        metafunc.parametrize("variant", variants if long_form else variants[-1:])


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


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tiny_model: Path, redis_url: str) -> Iterator[Stage]:
    """A gateway with agents of real (or paced) engines, shared by all trials."""
    from engine_agents.vllm_engine.frontend import build_front_half
    from tests.faults.site import Site
    from tests.faults.trials import Stage

    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        kind = getattr(request, "param", "vllm")
        site = Site(kind, tiny_model, build_front_half, redis_url, Path(folder))
        yield Stage(site)
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
