"""The paper's grid: every cell is there, its own numbers are its own, and partial results are read right."""

import json
from dataclasses import replace

import pytest

from controlplane.simulator import paper, paper_priorities, paper_report, paper_scaling, paper_serving
from controlplane.simulator.cli import main
from controlplane.simulator.grid import run_job
from controlplane.simulator.paper_grid import Options, Results, policy_for
from controlplane.simulator.paper_scaling import instances_at
from controlplane.simulator.report import console
from tests.simulator.conftest import TINY


def test_the_data_are_the_papers():
    data = paper.paper_data()
    serving = data["figure_11_serving"]
    assert sum(len(curves["rates_per_s"]) for curves in serving.values()) == 35
    assert serving["M-M"]["prefill_p99_s"]["infaas++"][-1] == 240.0
    assert data["setup"]["kv_capacity_tokens"] == 13_616
    over_35 = [
        infaas / llumnix
        for curves in serving.values()
        for infaas, llumnix in zip(
            *(curves["prefill_p99_s"][s] for s in ("infaas++", "llumnix")), strict=True
        )
    ]
    assert max(over_35) == pytest.approx(15.0, abs=0.1)


def test_the_whole_grid_is_asked_for():
    jobs = paper.all_jobs(paper.chosen_figures("all"), Options())
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    serving = [job for job in jobs if job.key[0] == "11" and not job.bound]
    assert len(serving) == 3 * (35 * 4 + 10)
    assert {job.key[0] for job in jobs} == {"11", "13", "14", "15"}
    assert all(job.report_delay_s == job.dispatch_delay_s == 0.01 for job in jobs)
    assert {job.seed for job in jobs} == {1, 2, 3}
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs), "a stopped run covers all traces"


def test_llumnix_has_the_papers_threshold_for_each_trace():
    def source(policy, mix):
        return policy_for(policy, mix).rescheduling.source_threshold_tokens

    assert (source("llumnix", "M-M"), source("llumnix", "S-L"), source("llumnix", "L-L")) == (160, 160, 48)
    assert source("llumdeck", "M-M") == source("llumdeck", "L-L")
    assert policy_for("llumnix", "M-M", rescheduling={"max_requests": 2}).rescheduling.max_requests == 2


def test_every_figure_has_cells_tables_and_its_part_of_the_summary(tiny_report):
    assert tiny_report["complete"]
    assert len(tiny_report["figures"]["11"]["cells"]) == 14
    out = console()
    with out.capture() as captured:
        for table in paper_report.tables(tiny_report):
            out.print(table)
    text = captured.get()
    for title in (
        "Figure 11, reproduction",
        "Figure 11, beyond",
        "Figure 13",
        "Figure 14",
        "Figure 15",
        "Summary",
    ):
        assert title in text
    for name in (
        "llumnix_vs_infaas_p99_prefill",
        "llumnix_vs_infaas_mean_prefill",
        "llumdeck_vs_infaas_p99_prefill",
        "llumdeck_vs_llumnix_p99_prefill",
        "llumdeck_vs_llumnix_mean_prefill",
        "llumdeck_vs_llumnix_p99_decode",
        "llumdeck_vs_llumnix_p99_request",
        "llumdeck_vs_llumnix_long_prompt_p99",
        "llumdeck_vs_llumnix_ledger_p99_prefill",
        "llumdeck_high_gain_over_own_base",
        "llumdeck_normal_cost",
    ):
        assert tiny_report["summary"][name] > -1
    json.dumps(tiny_report)


def test_cells_have_the_papers_number_and_ours(tiny_report):
    cell = tiny_report["figures"]["11"]["cells"][0]
    assert (cell["trace"], cell["rate_per_s"]) == ("ShareGPT", 7.25)
    assert cell["paper"]["prefill_p99_s"] == {"infaas++": 4.47, "llumnix": 1.86, "round_robin": 63.1}
    assert set(cell["ours"]) == {*paper_serving.SYSTEMS, "round_robin", "empty cluster", "pooled memory"}
    alone = cell["ours"]["empty cluster"]["prefill_mean_s"]
    assert all(ours["prefill_mean_s"] >= alone for ours in cell["ours"].values())
    priorities = tiny_report["figures"]["13"]["cells"]
    assert [(row["cv"], row["class"]) for row in priorities] == [(4, "high"), (4, "normal")]
    scaling = tiny_report["figures"]["14"]["cells"]
    assert [row.get("rates_per_s", row.get("cv")) for row in scaling] == [2.0, 2.6, 2.0, 5.0]


def made(figure, cell, system, seed="1", **times):
    """A result with the given means and P99s; everything else as one tiny run has it."""
    job = next(job for job in paper_serving.jobs(paper.paper_data(), TINY) if not job.bound)
    run = run_job(replace(job, workload=replace(job.workload, requests=20)))
    group = run.service.all
    for name, value in times.items():
        kind, part = name.rsplit("_", 1)
        group = replace(group, **{f"{kind}_s": replace(getattr(group, f"{kind}_s"), **{part: value})})
    loss = replace(group, preemption_loss_mean_s=times.get("request_mean", 1.0))
    return (figure, *cell, seed, system), replace(run, service=replace(run.service, all=loss))


def test_the_summary_is_a_geometric_mean_over_cells_and_seeds():
    results = Results(
        dict(
            [
                made("11", ("M-M", "7.4"), "infaas++", prefill_p99=8.0),
                made("11", ("M-M", "7.4"), "llumnix", prefill_p99=2.0),
                made("11", ("M-M", "7.5"), "infaas++", prefill_p99=5.0),
                made("11", ("M-M", "7.5"), "llumnix", prefill_p99=5.0),
                made("11", ("M-M", "7.5"), "infaas++", seed="2", prefill_p99=5.0),
            ]
        )
    )
    summary = paper_serving.summary(results)
    assert summary["llumnix_vs_infaas_p99_prefill"] == pytest.approx(2.0)
    assert summary["llumnix_loss_left_vs_infaas"] == pytest.approx(1.0)
    assert "llumdeck_vs_infaas_p99_prefill" not in summary
    rows = paper_serving.cells(paper.paper_data(), results)
    assert [row["rate_per_s"] for row in rows] == [7.4, 7.5]
    assert rows[1]["ours"]["infaas++"]["prefill_p99_s"] == 5.0
    assert "llumdeck" not in rows[0]["ours"]


def test_nothing_done_is_an_empty_report():
    empty = Results({})
    for figure in paper.FIGURES.values():
        assert figure.summary(empty) == {}
    assert paper_priorities.cells(paper.paper_data(), empty) == []
    assert paper_scaling.cost_cells(paper.paper_data(), empty)[0]["points"] == []


def test_instances_at_equal_p99_lie_on_the_curve():
    points = [(10.0, 40.0), (12.0, 10.0), (14.0, 2.5)]
    assert instances_at(points, 10.0) == pytest.approx(12.0)
    assert instances_at(points, 5.0) == pytest.approx(13.0)
    assert instances_at(points, 100.0) == 10.0
    assert instances_at(points, 1.0) is None
    assert instances_at([], 1.0) is None
    assert instances_at([*points, (13.0, 30.0)], 5.0) == pytest.approx(13.0)


def test_the_papers_own_points_give_a_fifth_not_a_third():
    cost = paper.paper_data()["figure_15_cost"]
    infaas, llumnix = (instances_at([tuple(p) for p in cost[s]], 4.5) for s in ("infaas++", "llumnix"))
    assert infaas is not None
    assert llumnix is not None
    assert 1 - llumnix / infaas == pytest.approx(0.21, abs=0.01)


def test_the_command_draws_prints_and_writes(tmp_path, capsys):
    path = tmp_path / "paper.json"
    arguments = ["paper", "--figure", "13", "--quick", "--requests", "80", "--processes", "1"]
    assert main([*arguments, "--json", str(path), "--plots", str(tmp_path / "plots")]) == 0
    found = json.loads(path.read_text())
    assert found["seeds"] == [paper.FIRST_SEED]
    assert found["runs"] == len(paper_priorities.SYSTEMS)
    assert (tmp_path / "plots" / "figure_13.svg").is_file()
    assert "Figure 13" in capsys.readouterr().out
    with pytest.raises(KeyError, match="11, 13, 14, 15"):
        paper.chosen_figures("12")
