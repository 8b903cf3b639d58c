"""What the gateway's tests share: a model folder, and one front half per module (vLLM is slow to import)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.gateway.harness import Fleet


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    path = tmp_path_factory.mktemp("model") / "tiny"
    make_tiny_model(path)
    return path


@pytest.fixture(scope="module")
def fleet(tiny_model: Path) -> Iterator[Fleet]:
    from engine_agents.vllm_engine.frontend import build_front_half
    from tests.gateway.harness import Fleet

    made = Fleet(str(tiny_model), build_front_half, {"max_model_len": 2048, "dtype": "float32"})
    yield made
    made.close()


@pytest.fixture(scope="package")
def live_fleet(tiny_model: Path) -> Iterator[Fleet]:
    """A gateway over two real engines, one pair for all tests here that need any.

    It reports every second while it lives: the tests of other folders count what lives in their process.
    """
    from engine_agents.vllm_engine.frontend import build_front_half
    from tests.gateway.conformance.suite import FRONT, add_engine
    from tests.gateway.harness import Fleet

    made = Fleet(str(tiny_model), build_front_half, FRONT)
    for name in ("v1", "v2"):
        add_engine(made, name, tiny_model)
    yield made
    made.close()


@pytest.fixture
def engines(live_fleet: Fleet, tiny_model: Path) -> Fleet:
    """The live fleet with both its engines, whatever the test before did to them."""
    from tests.gateway.conformance.suite import add_engine

    for name in ("v1", "v2"):
        if name not in live_fleet.agents:
            add_engine(live_fleet, name, tiny_model)
    return live_fleet
