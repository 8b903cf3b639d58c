"""Several pools and gateways in one run of the stack: who listens where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError

from console.management.commands.up import Command, options_from
from console.process import stack
from console.process.bootstrap import prepare_database
from console.process.options import Options, PoolOptions
from controlplane.fleet.models import Instance, Pool


def options(tmp_path: Path, **fields: Any) -> Options:
    return Options(state_dir=tmp_path, run_dir=tmp_path, project_dir=tmp_path, **fields)


def parsed(*words: str) -> dict[str, Any]:
    return vars(Command().create_parser("manage.py", "up").parse_args(list(words)))


def test_one_gateway_has_the_public_port(tmp_path: Path) -> None:
    one = options(tmp_path)
    assert not one.needs_router
    assert stack.gateway_child(one, {}).command[-3:-2] == ("8801",)


def test_several_stand_behind_a_router(tmp_path: Path) -> None:
    many = options(tmp_path, gateways=2, more_pools=(PoolOptions("code", "tiny", 3),))
    assert many.needs_router and many.all_engines == 5
    default, code = many.pools
    assert (default.pool, code.pool, code.engines) == ("default", "code", 3)
    assert (default.served_name, code.served_name) == ("llumdeck-tiny", "llumdeck-tiny-code")
    child = stack.gateway_child(code, {}, 2, 4567)
    assert child.name == "gateway-code-2"
    assert "4567" in child.command and "127.0.0.1" in child.command and "code" in child.command
    assert "8801" in stack.router_child(many, {}).command


def test_pools_are_said_on_the_command_line() -> None:
    made = options_from(parsed("--gateways", "2", "--pool", "code=tiny:3", "--pool", "big=Org/Model-7B"))
    assert made.gateways == 2
    assert made.more_pools == (PoolOptions("code", "tiny", 3), PoolOptions("big", "Org/Model-7B", 1))


@pytest.mark.parametrize("text", ["code", "code=", "=tiny", "default=tiny", "Bad Name=tiny", "code=tiny:0"])
def test_a_pool_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises((SystemExit, CommandError)):
        parsed("--pool", text)


def test_a_name_cannot_be_given_twice() -> None:
    with pytest.raises(CommandError, match="each name once"):
        options_from(parsed("--pool", "a=tiny", "--pool", "a=tiny"))


@pytest.mark.django_db
def test_every_pool_gets_its_instances_and_one_that_is_left_out_rests(tmp_path: Path, live_redis) -> None:
    prepare_database(options(tmp_path, more_pools=(PoolOptions("code", "tiny", 3),)))
    assert set(Pool.objects.values_list("name", "served_model")) == {
        ("default", "llumdeck-tiny"),
        ("code", "llumdeck-tiny-code"),
    }
    assert Instance.objects.filter(pool__name="code", state="pending").count() == 3
    prepare_database(options(tmp_path))
    assert Instance.objects.filter(pool__name="code", state="stopped").count() == 3
    assert Instance.objects.filter(pool__name="default", state="pending").count() == 2
