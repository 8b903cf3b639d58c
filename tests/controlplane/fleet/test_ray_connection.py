from __future__ import annotations

import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from controlplane.fleet import ray_connection
from controlplane.fleet.agents import ClusterAwayError
from controlplane.fleet.ray_agents import KILLED, RayAgentClient, sentence
from controlplane.fleet.ray_connection import RayConnection


@pytest.fixture
def nobody_there(settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.RAY_ADDRESS = f"127.0.0.1:{taken.getsockname()[1]}"
        yield settings.RAY_ADDRESS


def test_a_head_that_refuses_is_never_asked_by_ray_itself(nobody_there, monkeypatch):
    """Ray's own attempt holds the whole process for seconds, the loop's ticks with it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    connection = RayConnection()
    assert not connection.ready(timeout_s=5.0)
    assert connection.problem == f"Ray's head at {nobody_there} is away (Connection refused)"
    assert connection.head_problem(timeout_s=0.0) == connection.problem


def test_a_head_that_is_silent_costs_a_caller_its_own_time_out_only(settings, monkeypatch):
    never = threading.Event()
    settings.RAY_ADDRESS = ""
    connection = RayConnection()
    connection._connected.set()
    monkeypatch.setattr("engine_agents.launch.find_agent", lambda name: never.wait(60))
    for name in ("a", "b", "a"):
        with pytest.raises(TimeoutError, match="head does not answer"):
            connection.find(name, timeout_s=0.01)
    never.set()


def test_a_head_that_is_back_answers_for_others_than_were_asked_for_meanwhile(settings, monkeypatch):
    """Answers that came too late for their callers do not count as questions under way."""
    back = threading.Event()
    settings.RAY_ADDRESS = ""
    connection = RayConnection()
    connection._connected.set()
    monkeypatch.setattr("engine_agents.launch.find_agent", lambda name: back.wait(60) and name)
    for number in range(ray_connection.MAX_ASKED):
        with pytest.raises(TimeoutError):
            connection.find(f"gone-{number}", timeout_s=0.001)
    with pytest.raises(TimeoutError):
        connection.find("a", timeout_s=60.0)
    back.set()
    connection._askers.shutdown(wait=True)
    connection._askers = ThreadPoolExecutor(1)
    assert connection.find("a", timeout_s=60.0) == "a"


def test_another_cluster_at_the_same_address_is_noticed(settings, monkeypatch):
    def refuse(name: str) -> None:
        raise RuntimeError("RPC error: WrongClusterID: perhaps the client")

    settings.RAY_ADDRESS = ""
    connection = RayConnection()
    connection._connected.set()
    monkeypatch.setattr("engine_agents.launch.find_agent", refuse)
    with pytest.raises(ConnectionError, match="replaced by another cluster"):
        connection.find("a", timeout_s=5.0)
    assert not connection._connected.is_set(), "to be connected anew"


def test_without_a_head_nothing_is_placed_and_commands_are_answered_for(nobody_there, monkeypatch):
    monkeypatch.setattr(ray_connection.connection, "_connected", threading.Event())
    client = RayAgentClient()
    with pytest.raises(ClusterAwayError, match="is away"):
        client.require_cluster()
    assert "unreachable" in client.set_accepting({"a": True}, lease_epoch=1, timeout_s=0.01)["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The actor died: Worker exit type: SYSTEM_ERROR Worker exit detail: unexpectedly", KILLED),
        ("x\nengine_agents.StartError: model folder 'm' does not exist", "does not exist"),
        ("the worker died with exit code 70", "its process ended with code 70"),
        ("", "RuntimeError"),
    ],
)
def test_ray_s_long_texts_become_a_sentence(text, said):
    assert said in sentence(RuntimeError(text))
