"""Two real engines in one process, shared by every test that needs one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine_agents.vllm_engine.tiny_model import make_tiny_model
from tests.vllm_engine.harness import BLOCK_TOKENS, Site


def pytest_collection_modifyitems(items):
    """Whatever is tested here needs vLLM, which takes as long to load as an engine."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="package")
def _sites(tiny_model):
    sites = [Site.started(name, tiny_model, block_size=BLOCK_TOKENS) for name in ("a", "b")]
    sites[0].note_first_uses()
    yield sites
    for site in sites:
        site.engine.stop()


@pytest.fixture
def sites(_sites):
    """Two idle engines; after the test nothing may be left on either: no request, no block."""
    for site in _sites:
        site.abort_all()
        site.outputs.forget()
    yield _sites
    for site in _sites:
        site.wait_idle()
        load = site.engine.load()
        assert (load.used_blocks, load.reserved_blocks, load.running, load.waiting) == (0, 0, 0, 0), site.name


@pytest.fixture
def site(sites):
    return sites[0]
