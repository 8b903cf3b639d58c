"""Pictures are drawn from plain data, and a missing matplotlib is said clearly."""

import builtins

import pytest

from controlplane.simulator import plots


@pytest.fixture
def without_matplotlib(monkeypatch):
    plain = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_all_figures_are_drawn(tiny_report, tmp_path):
    serving = tiny_report["figures"]["11"]
    one_trace = [cell for cell in serving["cells"] if cell["trace"] == "ShareGPT"]
    report = {"figures": {**tiny_report["figures"], "11": {**serving, "cells": one_trace}}}
    drawn = plots.plot_paper(report, tmp_path / "figures", "png")
    assert [path.name for path in drawn] == [f"figure_{n}.png" for n in (11, 13, 14, 15)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_nothing_done_draws_nothing(tmp_path):
    report = {"figures": {"11": {"title": "", "cells": []}}}
    assert plots.plot_paper(report, tmp_path, "svg") == []


def test_a_missing_matplotlib_is_said(without_matplotlib, tmp_path):
    with pytest.raises(plots.PlotError, match="pip install matplotlib"):
        plots.plot_paper({"figures": {"15": {"title": "", "cells": [{}]}}}, tmp_path, "svg")


def test_an_unknown_format_is_said(tmp_path):
    cell = {"system": "llumnix", "points": [[1.0, 2.0]], "paper_points": []}
    with pytest.raises(plots.PlotError, match="cannot be written"):
        plots.plot_paper({"figures": {"15": {"title": "", "cells": [cell]}}}, tmp_path, "abc")
