"""The command line: what it prints and writes, and one clear line for every mistake."""

import csv
import json
import signal
import subprocess
import sys

import pytest

from controlplane.simulator import latency
from controlplane.simulator.cli import main
from controlplane.simulator.fitting import COLUMNS
from controlplane.simulator.latency import load

SMALL = ["--workload", "S-S", "--rate", "8", "--requests", "120", "--instances", "4"]


def test_run_prints_a_table_and_writes_everything(tmp_path, capsys):
    files = {name: tmp_path / name for name in ("run.json", "records.csv", "run.svg")}
    options = ["--json", files["run.json"], "--records", files["records.csv"], "--plot", files["run.svg"]]
    assert main(["run", "--policy", "llumnix", *SMALL, "--seed", "3", *map(str, options)]) == 0
    shown = capsys.readouterr().out
    assert "llumnix on S-S @ 8/s, 4 instances, seed 3" in shown
    assert "P99.9" in shown
    found = json.loads(files["run.json"].read_text())
    assert found["metrics"]["service"]["all"]["requests"] == 120
    assert found["policy"]["policy"] == "llumnix"
    assert found["metrics"]["events_sha256"] in shown
    assert len(found["coefficients_sha256"]) == 64
    with files["records.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert all(float(row["finished_s"]) >= float(row["first_token_s"]) >= 0 for row in rows)
    assert "<svg" in files["run.svg"].read_text()


def test_the_same_seed_gives_the_same_events(tmp_path):
    hashes = []
    for seed in ("1", "1", "2"):
        path = tmp_path / "out.json"
        assert main(["run", *SMALL, "--seed", seed, "--json", str(path)]) == 0
        hashes.append(json.loads(path.read_text())["metrics"]["events_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_compare_has_a_column_per_policy_and_bound(tmp_path, capsys):
    path = tmp_path / "c.json"
    options = ["--policies", "infaas++, llumdeck,infaas++", "--seeds", "2", "--processes", "1"]
    assert main(["compare", *options, *SMALL, "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    found = json.loads(path.read_text())
    assert list(found["systems"]) == ["infaas++", "llumdeck", "empty cluster", "pooled memory"]
    assert all(name in shown for name in found["systems"])
    assert len(found["systems"]["llumdeck"]) == 2
    assert found["times_better_than_the_first"]["infaas++"]["prefill_p99_s"] == pytest.approx(1.0)
    assert found["times_better_than_the_first"]["empty cluster"]["prefill_p99_s"] >= 1.0
    assert main(["compare", "--policies", "llumdeck", "--no-bounds", "--mode", "vllm_v1", *SMALL]) == 0
    assert "empty cluster" not in capsys.readouterr().out


def test_classes_promises_and_configuration(tmp_path):
    path = tmp_path / "out.json"
    arguments = ["--share", "interactive=1", "--share", "batch=3", "--slo", "interactive=0.2,-"]
    arguments += ["--target-load", "interactive=1600", "--set", "rescheduling.enabled=false"]
    arguments += ["--speeds", "2,1.5", "--boot-s", "0"]
    assert main(["run", "--policy", "llumnix", *SMALL, *arguments, "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert set(found["metrics"]["service"]["classes"]) == {"interactive", "batch"}
    assert found["policy"]["rescheduling"]["enabled"] is False
    assert found["metrics"]["migrations_done"] == 0
    assert found["relative_speeds"] == [2.0, 1.5]
    interactive = next(rule for rule in found["workload"]["classes"] if rule["name"] == "interactive")
    assert interactive["target_load_tokens"] == 1600


def test_a_trace_is_played_and_described(tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("arrival,prompt,output\n" + "".join(f"{n},20,{n % 9 + 1}\n" for n in range(60)))
    out = tmp_path / "out.json"
    assert main(["run", "--workload", str(path), "--instances", "2", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["metrics"]["service"]["all"]["requests"] == 60
    assert len(found["trace_sha256"]) == 64
    assert main(["trace-info", str(path), "--json", str(out)]) == 0
    info = json.loads(out.read_text())
    assert (info["requests"], info["rate_per_s"], info["gap_cv"]) == (60, 1.0, 0.0)
    assert info["prompt_tokens"]["p99"] == 20
    assert info["peak_over_mean_rate"]["10s"] == 1.0
    assert "gap cv" in capsys.readouterr().out


def test_fit_writes_a_model_that_can_be_used(tmp_path, capsys):
    model, steps = load("llama-2-7b-a100"), tmp_path / "steps.csv"
    with steps.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for n in range(1, 120):
            step = (0, 0, n % 30 + 1, 90 * n) if n % 2 else (20 * n, 0, 0, 0)
            writer.writerow((*step, 1000 * model.mixed_s(*step)))
    out = tmp_path / "mine.json"
    assert main(["fit", str(steps), "--out", str(out), "--capacity-blocks", "500"]) == 0
    assert "mean error" in capsys.readouterr().out
    assert latency.load(str(out)).name == "mine"
    assert main(["run", *SMALL, "--latency", str(out)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--workload", "M-M"], "--rate is needed for the mix M-M"),
        (
            ["run", "--workload", "nowhere.csv"],
            "no trace file 'nowhere.csv' and no mix of that name (ShareGPT",
        ),
        (["run", *SMALL, "--latency", "abacus"], "no latency model 'abacus'"),
        (["run", *SMALL, "--set", "rescheduling.max_requests=0"], "rescheduling.max_requests: must be"),
        (["run", *SMALL, "--set", "enabled=false"], "enabled: must be PART.FIELD"),
        (["run", *SMALL, "--set", "policy.x=1"], "policy: is not a part"),
        (["run", *SMALL, "--set", "queue.nonsense=1"], "queue.nonsense: unknown"),
        (["run", *SMALL, "--share", "gold=1"], "--share: no SLO class 'gold'"),
        (["run", *SMALL, "--share", "batch=much"], "--share batch: expected a number"),
        (["run", *SMALL, "--slo", "batch=1"], "--slo batch: expected TTFT_S,TPOT_S"),
        (["run", *SMALL, "--target-load", "gold=1"], "--target-load: no SLO class 'gold'"),
        (["compare", "--policies", "infaas++,magic", *SMALL], "policy: must be one of"),
        (["compare", "--policies", ",", *SMALL], "name at least one"),
        (["trace-info", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["fit", "nowhere.csv", "--out", "x.json", "--capacity-blocks", "1"], "nowhere.csv: cannot be read"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", *SMALL, "--policy", "magic"], "invalid choice: 'magic'"),
        (["run", *SMALL, "--instances", "0"], "expected a whole number of at least 1, got '0'"),
        (["run", *SMALL, "--cv", "-1"], "expected a number above 0, got '-1'"),
        (["run", *SMALL, "--seed", "x"], "expected a whole number from 0"),
        (["run", *SMALL, "--json", "/no/such/folder/x.json"], "there is no folder '/no/such/folder'"),
        (["run", *SMALL, "--json", "/"], "is a folder"),
        (["run", *SMALL, "--speeds", "1,0"], "expected a number above 0, got '0'"),
        (["run", *SMALL, "--set", "x"], "expected NAME=VALUE, got 'x'"),
        (["run", *SMALL, "--report-delay-ms", "-5"], "expected a number of at least 0"),
        (["paper", "--figure", "99"], "invalid choice: '99'"),
        ([], "COMMAND"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_bad_row_of_a_trace_names_its_line(tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("arrival,prompt,output\n1,2,3\n2,two,3\n")
    assert main(["run", "--workload", str(path)]) == 2
    assert f"{path}:3: prompt must be a whole number of tokens" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done(tmp_path):
    path = tmp_path / "c.json"
    command = [sys.executable, "-m", "controlplane.simulator", "compare", "--policies", "infaas++"]
    command += ["--workload", "S-S", "--rate", "20", "--requests", "60", "--seeds", "1000", "--no-bounds"]
    process = subprocess.Popen(
        [*command, "--processes", "2", "--json", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "100 of 1000 runs done\n"
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "of 1000 runs were done and are shown" in error
    assert "infaas++" in out
    assert len(json.loads(path.read_text())["systems"]["infaas++"]) >= 1
