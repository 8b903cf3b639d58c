"""Traces: the three formats, order, and errors that name file, line and column."""

import os
from pathlib import Path

import pytest

from controlplane.simulator.importers import TraceError, read_trace


def written(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_azure_dates_become_seconds_from_the_first(tmp_path):
    path = written(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n",
    )
    trace = read_trace(path)
    first, second = trace.workload.requests
    assert (trace.format_name, trace.failed_rows) == ("azure", 0)
    assert (first.arrival_s, first.prompt_tokens, first.output_tokens) == (0.0, 374, 44)
    assert second.arrival_s == pytest.approx(4.314579, abs=1e-6)
    assert second.slo_class == "standard"


def test_burstgpt_leaves_out_failed_requests(tmp_path):
    path = written(
        tmp_path,
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n"
        "118,GPT-4,417,276,693,Conversation log\n",
    )
    trace = read_trace(path)
    assert (trace.format_name, trace.failed_rows) == ("burstgpt", 1)
    assert [r.arrival_s for r in trace.workload.requests] == [0.0, 113.0]


def test_generic_with_classes_in_any_order(tmp_path):
    path = written(
        tmp_path, "class,output,prompt,arrival\nbatch,7,5,3.5\n,9,8,1.5\n\ninteractive,2,1,2024-01-01\n"
    )
    with pytest.raises(TraceError, match="standrd"):
        read_trace(path, default_class="standrd")
    requests = read_trace(path, limit=2).workload.requests
    assert [(r.request_id, r.arrival_s, r.prompt_tokens, r.slo_class) for r in requests] == [
        (0, 0.0, 8, "standard"),
        (1, 2.0, 5, "batch"),
    ]


def test_dates_with_a_zone_and_with_z_agree(tmp_path):
    path = written(
        tmp_path,
        "arrived_at,num_prefill_tokens,num_decode_tokens\n"
        "2024-05-01T12:00:00Z,1,1\n2024-05-01T14:00:01+02:00,2,2\n2024-05-01T12:00:02.5Z,3,3\n",
    )
    assert [r.arrival_s for r in read_trace(path).workload.requests] == [0.0, 1.0, 2.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"trace\.csv:1: unknown columns \(none\)"),
        ("a,b,c\n1,2,3\n", r":1: unknown columns a, b, c; expected"),
        ("arrival,prompt,output\n", "no requests"),
        ("arrival,prompt,output\n1,2,3\n2,x,3\n", r"trace\.csv:3: prompt .* got 'x'"),
        ("arrival,prompt,output\n1,2,0\n", r":2: output must be a whole number of tokens from 1"),
        ("arrival,prompt,output\n1,2.5,3\n", r":2: prompt"),
        ("arrival,prompt,output\n1,nan,3\n", r":2: prompt"),
        ("arrival,prompt,output\n1,inf,3\n", r":2: prompt"),
        ("arrival,prompt,output\n1,2\n", r":2: the row ends before its output column \(column 3\)"),
        ("arrival,prompt,output\nsoon,2,3\n", r":2: arrival must be seconds or an ISO date, got 'soon'"),
        ("arrival,prompt,output\nnan,2,3\n", r":2: arrival must be finite"),
        ("arrival,prompt,output,class\n1,2,3,gold\n", r":2: class 'gold' is unknown; there are interactive"),
    ],
)
def test_bad_input_names_file_line_and_column(tmp_path, text, message):
    with pytest.raises(TraceError, match=message):
        read_trace(written(tmp_path, text))


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "absent.csv")
    (tmp_path / "trace.csv").write_bytes(b"arrival,prompt,output\n\xff\xfe,1,2\n")
    with pytest.raises(TraceError, match="not a text file"):
        read_trace(tmp_path / "trace.csv")


def test_azure_trace_has_its_published_statistics():
    folder = os.environ.get("LLUMDECK_TRACES")
    if not folder or not (Path(folder) / "azure_llm_2023_conv.csv").is_file():
        pytest.skip("LLUMDECK_TRACES does not name a folder with azure_llm_2023_conv.csv")
    workload = read_trace(Path(folder) / "azure_llm_2023_conv.csv").workload
    assert len(workload.requests) == 19_366
    assert workload.rate_per_s == pytest.approx(5.53, abs=0.01)
    assert sum(r.prompt_tokens for r in workload.requests) / 19_366 == pytest.approx(1155, abs=1)
    assert sum(r.output_tokens for r in workload.requests) / 19_366 == pytest.approx(211, abs=1)
