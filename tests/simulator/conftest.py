"""One tiny run of the paper's whole grid, for all who look at its report."""

import pytest

from controlplane.simulator import paper
from controlplane.simulator.paper_grid import Options

TINY = Options(seeds=(5,), requests=40, quick=True)


@pytest.fixture(scope="session")
def tiny_report():
    return paper.run(paper.chosen_figures("all"), TINY)
