"""Cases 7 to 11: the other side hangs, the network is cut, slow or damaging."""

from __future__ import annotations

import pickle
import time

import msgspec
import pytest
import zmq

from engine_agents.messages import Chunk, Commit, Message, MigrationOutcome, Reserve, encode
from tests.faults.matrix import on_real_engines, varied
from tests.faults.relay import Way
from tests.faults.scene import Scene
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

PATIENCE_S = 30.0
HANGS_TRIED = 8
SLOW_BYTES_PER_S = 1_000_000


def hang_in_mid_copy(scene: Scene) -> None:
    """Move requests until the destination has stopped before it had all of one."""
    destination = scene.agent("destination")
    for _ in range(HANGS_TRIED):
        destination.arm("destination.write:stop@1")
        scene.struck()
        migration_id = scene.move_until(destination.is_stopped, "the destination's hanging")
        if scene.site.outcome(migration_id).state == "aborted":
            return
        destination.go_on()
        scene.site.wait_usable(scene.destination)
    raise AssertionError(f"in {HANGS_TRIED} hangs it had always got the request already")


@on_real_engines
def test_case_07_a_destination_that_hangs_and_wakes_up(stage: Stage, matrix, seed: int) -> None:
    """Stopped in mid-copy until all have given it up; what it then says is late and counts for nothing."""
    with stage.trial(matrix, 7, "destination stopped in mid-copy, then let go on", seed) as scene:
        scene.somewhere()
        site = scene.site
        hang_in_mid_copy(scene)
        site.wait_for(lambda: scene.destination not in site.gateway.links.usable())
        late = site.loop.call(lambda: site.gateway.journal.counters["stale_outputs"])
        scene.agent("destination").go_on()
        site.wait_usable(scene.destination)
        fenced = site.loop.call(lambda: site.gateway.journal.counters["stale_outputs"]) - late
        scene.trial.note(late_outputs_dropped=fenced)


CUTS = {
    "cut": None,
    "one way, towards the source": frozenset({Way.BACK}),
    "one way, towards the destination": frozenset({Way.OUT}),
    "both ways in silence": frozenset(Way),
}


@varied(*CUTS)
def test_case_08_a_partition_in_mid_copy(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 8, f"partition in mid-copy, {variant}", seed) as scene:
        partition(scene, CUTS[variant], "destination.write")


@pytest.mark.long
@varied(*CUTS)
def test_case_08_a_partition_at_commit(stage: Stage, matrix, seed: int, variant: str) -> None:
    """The source cannot know whether it was adopted: it asks, and in the end the gateway says."""
    with stage.trial(matrix, 8, f"partition at COMMIT, {variant}", seed) as scene:
        partition(scene, CUTS[variant], "destination.adopt")


def partition(scene: Scene, silent: frozenset[Way] | None, point: str) -> None:
    scene.somewhere()
    relay = scene.relay()
    scene.agent("destination").arm(f"{point}:delay=0.4@1")
    scene.struck()
    migration_id = scene.move_to("destination", point, via=relay)
    if silent is None:
        relay.cut(refuse=True)
    else:
        relay.weather.silent = silent
    began_s = time.monotonic()
    outcome = scene.site.outcome(migration_id)
    scene.trial.note(**{outcome.state: 1}, ended_ms=round(1e3 * (time.monotonic() - began_s)))


def test_case_09_a_slow_link(stage: Stage, matrix, seed: int) -> None:
    """Less than decoding makes: stages cannot catch up and must end by themselves."""
    with stage.trial(matrix, 9, "link of 1 MB/s", seed) as scene:
        scene.somewhere()
        relay = scene.relay()
        relay.weather.bytes_per_s = SLOW_BYTES_PER_S
        scene.struck()
        outcome = scene.move_until_ended(lambda one: one.stages, "a stage over the slow link", via=relay)
        config = scene.agent("source").config
        assert len(outcome.stages) <= config.max_stages + 1
        scene.trial.note(**{outcome.state: 1}, downtime_ms=round(outcome.downtime_ms))


@varied("truncated", "flipped")
def test_case_10_a_payload_that_is_damaged_on_the_way(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 10, f"payload {variant} on the way", seed) as scene:
        scene.somewhere()
        relay, flipped = scene.relay(), variant == "flipped"
        weather, already = relay.weather, damaged(scene)
        scene.struck()

        def one_more(_: object) -> None:
            weather.flips, weather.truncations = int(flipped), int(not flipped)
            weather.flipped = weather.truncated = 0

        def noticed(outcome: MigrationOutcome) -> bool:
            struck = damaged(scene) > already if flipped else weather.truncated
            return outcome.state == "aborted" and bool(struck)

        # Damage that nobody noticed would be in the tokens.
        scene.move_until_ended(noticed, "damage that is noticed", prepare=one_more, via=relay)
        scene.trial.note(injected=1, detected=1)


@on_real_engines
@varied("truncate", "corrupt")
def test_case_10_a_payload_that_is_damaged_at_the_source(
    stage: Stage, matrix, seed: int, variant: str
) -> None:
    """After its sum was taken: in shared memory or in a frame, wherever the bytes travel."""
    with stage.trial(matrix, 10, f"payload damaged at the source ({variant})", seed) as scene:
        scene.somewhere()
        already = damaged(scene)
        scene.agent("source").arm(f"transfer.chunk:{variant}")
        scene.struck()
        # One whose blocks all travel with COMMIT is done; damage that nobody noticed would be in the tokens.
        scene.move_until_ended(
            lambda one: one.state == "aborted" and damaged(scene) > already, "damage that is noticed"
        )
        scene.agent("source").arm("")
        scene.trial.note(injected=1, detected=1)


def damaged(scene: Scene) -> int:
    """Chunks that the destination found to be damaged, ever."""
    return int(scene.agent("destination").ask("counters").get("damaged_chunks", 0))


def test_case_11_messages_that_do_not_fit(stage: Stage, matrix, seed: int) -> None:
    """Another model or shape, wrong counts, no messages at all: refused in words; serving goes on."""
    with stage.trial(matrix, 11, "payload of another model or shape, garbage", seed) as scene:
        scene.somewhere()
        agent = scene.agent("destination")
        described = agent.ask("describe")
        compatibility = described["info"]["compatibility"]
        with stranger(described["peer_endpoint"]) as socket:
            for number, (message, frame) in enumerate(misfits(compatibility, scene.gateway_ids())):
                socket.send_multipart([encode(message), *([frame] if frame is not None else [])])
                if isinstance(message, Reserve):
                    answer = msgspec.msgpack.decode(answer_of(socket))
                    assert answer["type"] == "Refuse" and answer["reason"], (number, answer)
            for garbage in (b"", b"\xff" * 64, pickle.dumps({"a": 1}), b"\x80" * 4096):
                socket.send_multipart([garbage, garbage])
        assert agent.alive() and agent.ask("load")["reserved_blocks"] == 0
        scene.trial.note(refused=len(misfits(compatibility, ("g", "i"))) + 4)


def stranger(endpoint: str) -> zmq.Socket:
    socket: zmq.Socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 500
    socket.connect(endpoint)
    return socket


def answer_of(socket: zmq.Socket) -> bytes:
    assert socket.poll(int(PATIENCE_S * 1e3)), "no answer"
    data: bytes = socket.recv()
    return data


def misfits(compatibility: str, gateway: tuple[str, str]) -> list[tuple[Message, bytes | None]]:
    def reserve(number: int, **changes: object) -> Reserve:
        settings = {
            "migration_id": f"misfit-{number}",
            "stage": 0,
            "new_engine_id": f"stranger{number}#1",
            "total_tokens": 100,
            "image": b"no image",
            "gateway_id": gateway[0],
            "gateway_incarnation": gateway[1],
            "compatibility": compatibility,
        }
        return Reserve(**{**settings, **changes})

    chunk = {"migration_id": "misfit-9", "stage": 0, "first_block": 0, "checksum": 0}
    return [
        (reserve(1, compatibility="another model"), None),
        (reserve(2), None),
        (reserve(3, gateway_id="nobody"), None),
        (reserve(4, new_engine_id="no number"), None),
        (reserve(5, total_tokens=10**9), None),
        (reserve(6, stage=3), None),
        (Chunk(**chunk, blocks=10**6), b"x"),
        (Chunk(**chunk, blocks=1), None),
        (
            Commit(
                migration_id="misfit-9",
                new_engine_id="x#2",
                first_block=0,
                blocks=1,
                checksum=0,
                frozen=b"",
                output_token_ids=[],
                num_computed_tokens=0,
            ),
            b"tail",
        ),
    ]
