"""What the command line and the database say, and what is told to whoever starts it wrongly."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import DataError

from controlplane.fleet.models import Pool
from controlplane.gateway import composition
from controlplane.gateway.__main__ import parse
from controlplane.gateway.composition import StartError, options_from, real_ports
from controlplane.gateway.server import listen

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def pool(folder: Path) -> Pool:
    return Pool.objects.create(
        name="p", served_model="tiny", model_path=str(folder), engine_args={"max_model_len": 1024}
    )


def test_the_pools_row_says_what_is_served(pool: Pool, folder: Path) -> None:
    options = options_from(parse(["--pool", "p", "--host", "127.0.0.1"]), 1234)
    assert (options.model.model, options.model.served_model) == (str(folder), "tiny")
    assert options.model.engine_args == {"max_model_len": 1024}
    assert options.url == "http://127.0.0.1:1234" and options.gateway_id.startswith("gateway-")


def test_arguments_go_before_the_row(pool: Pool, tmp_path: Path, folder: Path) -> None:
    arguments = ["--pool", "p", "--served-model-name", "mine", "--max-model-len", "512", "--gateway-id", "g1"]
    options = options_from(parse(arguments), 1)
    assert (options.model.served_model, options.model.engine_args["max_model_len"]) == ("mine", 512)
    assert options.gateway_id == "g1"


def test_no_row_is_needed_where_all_is_said(folder: Path) -> None:
    options = options_from(parse(["--pool", "new", "--model", str(folder), "--served-model-name", "m"]), 1)
    assert options.model.model == str(folder)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--pool", "nobody"], "no pool 'nobody'"), (["--pool", "p", "--model", "/nowhere"], "config.json")],
)
def test_what_is_wrong_is_said_with_what_would_be_right(pool: Pool, arguments: list[str], word: str) -> None:
    with pytest.raises(StartError, match=word):
        options_from(parse(arguments), 1)


def test_a_simulated_pool_needs_a_tokenizer(pool: Pool) -> None:
    pool.engine = Pool.Engine.PACED
    pool.save()
    with pytest.raises(StartError, match="--model"):
        options_from(parse(["--pool", "p"]), 1)


def test_a_taken_port_is_said() -> None:
    taken = listen("127.0.0.1", 0)
    taken.listen()
    with pytest.raises(OSError, match="choose another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()
    assert isinstance(taken, socket.socket)


def test_rules_come_from_the_database(pool: Pool) -> None:
    rules = real_ports("p").read_rules()
    assert rules.config.policy and {"interactive", "standard", "batch"} <= set(rules.classes)


def test_importing_the_gateway_loads_no_vllm() -> None:
    script = (
        "import sys, django; from django.conf import settings; import console.settings.test;"
        "django.setup(); import controlplane.gateway.composition, controlplane.gateway.__main__;"
        "sys.exit(int('vllm' in sys.modules or 'torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.django_db
def test_a_record_that_the_database_does_not_take_holds_up_no_other(monkeypatch) -> None:
    stored: list[str] = []

    def store(items) -> int:
        if any(item.request_id == "bad" for item in items):
            raise DataError("value too long")
        stored.extend(item.request_id for item in items)
        return len(items)

    monkeypatch.setattr(composition, "record_requests", store)
    batch = [SimpleNamespace(request_id=name) for name in ("a", "bad", "b")]
    assert composition._write_records(batch) == 2  # type: ignore[arg-type]
    assert stored == ["a", "b"]
