from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from console.process.failure import StackError
from console.process.run_directory import RunDirectory, read_note


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    state = tmp_path / "state"
    state.mkdir()
    return tmp_path / "run", state


def test_it_is_for_its_owner_alone_and_gone_afterwards(places: tuple[Path, Path]) -> None:
    directory = RunDirectory(*places)
    directory.acquire()
    assert stat.S_IMODE(places[0].stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.write_token("secret").stat().st_mode) == 0o600
    directory.release()
    assert not places[0].exists()


def test_the_second_is_told_who_runs_and_what_to_do(places: tuple[Path, Path]) -> None:
    first = RunDirectory(*places)
    first.acquire()
    first.note({"console": "http://127.0.0.1:8800"})
    with pytest.raises(StackError, match=rf"pid {os.getpid()}, console at http://127.0.0.1:8800.*STATE_DIR"):
        RunDirectory(*places).acquire()
    first.release()
    second = RunDirectory(*places)
    second.acquire()
    second.release()


def test_the_note_is_read_only_while_it_is_true(places: tuple[Path, Path]) -> None:
    directory = RunDirectory(*places)
    assert read_note(places[1]) == {}
    directory.acquire()
    directory.note({"gateway": "http://127.0.0.1:1"})
    assert read_note(places[1])["gateway"] == "http://127.0.0.1:1"
    directory.release()
    assert read_note(places[1]) == {}


def test_what_a_killed_owner_left_is_swept(places: tuple[Path, Path]) -> None:
    places[0].mkdir(mode=0o700)
    (places[0] / "redis.sock").write_text("stale")
    directory = RunDirectory(*places)
    directory.acquire()
    assert list(places[0].iterdir()) == []
    directory.release()


def test_a_directory_of_somebody_else_is_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    places[0].symlink_to(tmp_path)
    with pytest.raises(StackError, match="belongs to somebody else"):
        RunDirectory(*places).acquire()
