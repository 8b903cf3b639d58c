from __future__ import annotations

import socket
from pathlib import Path

import pytest

from console.process import preflight
from console.process.failure import StackError


def test_a_taken_port_is_named_with_its_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {port} is taken by .* with CONSOLE_PORT="):
            preflight.check_ports("127.0.0.1", {"CONSOLE_PORT": port, "GATEWAY_PORT": 1})


def test_equal_ports_are_refused() -> None:
    with pytest.raises(StackError, match="must differ"):
        preflight.check_ports("127.0.0.1", {"CONSOLE_PORT": 8800, "GATEWAY_PORT": 8800})


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StackError, match="no address of this machine"):
        preflight.check_ports("192.0.2.77", {"CONSOLE_PORT": 8800})


def test_too_little_memory_is_said_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "available_memory_bytes", lambda: 2 * 2**30)
    with pytest.raises(StackError, match=r"2 engines need about 4\.3 GiB .* 2\.0 GiB are free.*ENGINES=1"):
        preflight.check_memory(2, 64 * 2**20)


def test_a_control_group_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert list(preflight.cgroup_rooms(tmp_path)) == [600]


def test_no_control_group_limit_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert list(preflight.cgroup_rooms(tmp_path)) == []


@pytest.mark.parametrize("model", ["/no/such/folder", "./missing", "just-a-word", "a/b/c"])
def test_a_missing_model_is_said(model: str) -> None:
    with pytest.raises(StackError, match="neither a folder nor a hub's name"):
        preflight.check_model(model)


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"without config\.json"):
        preflight.check_model(str(tmp_path))


def test_a_model_folder_and_a_hub_name_pass(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    preflight.check_model(str(tmp_path))
    preflight.check_model("some-owner/some-model")


async def test_an_unreachable_redis_is_said(settings, tmp_path: Path) -> None:
    settings.REDIS_URL = f"unix://{tmp_path / 'nobody.sock'}"
    with pytest.raises(StackError, match=r"REDIS_URL.*does not answer.*unset REDIS_URL"):
        await preflight.check_redis()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
async def test_an_unreachable_ray_is_said(address: str) -> None:
    with pytest.raises(StackError, match=f"RAY_ADDRESS={address}.*unset RAY_ADDRESS"):
        await preflight.check_ray(address)
