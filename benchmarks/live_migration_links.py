"""What authenticated, encrypted links (CURVE) cost: CPU per message of both ends together, beside plain ones.

    python -m benchmarks.live_migration_links [--json FILE]

Two sockets as agents have them towards each other, in one process; pieces of KV blocks
(4 MiB) and control messages (500 bytes), plain and secured in turn. No engine is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from engine_agents.link_security import LinkKeys, agent_keys
from engine_agents.migration.transfer import CHUNK_BYTES

SIZES = {"chunk": (CHUNK_BYTES, 30), "control": (500, 5000)}
"""Kind -> bytes, messages per repetition."""
REPETITIONS = 5
CHUNKS_QUEUED = 4


@contextmanager
def link(keys: LinkKeys | None) -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """``(sender, receiver)``, connected."""
    with zmq.Context() as ours, zmq.Context() as theirs:
        receiver, sender = ours.socket(zmq.ROUTER), theirs.socket(zmq.DEALER)
        authenticator = ThreadAuthenticator(ours)
        if keys is not None:
            authenticator.start()
            authenticator.configure_curve(domain="*", location=zmq.auth.CURVE_ALLOW_ANY)
            keys.listen(receiver)
            keys.speak(sender)
        sender.sndhwm = CHUNKS_QUEUED
        try:
            sender.connect(f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}")
            sender.send(b"hello")
            receiver.recv_multipart()
            yield sender, receiver
        finally:
            if keys is not None:
                authenticator.stop()
            for socket in (sender, receiver):
                socket.close(linger=0)


def cpu_us_per_message(keys: LinkKeys | None, size: int, count: int) -> float:
    data = os.urandom(size)
    with link(keys) as (sender, receiver):

        def send() -> None:
            for _ in range(count):
                sender.send_multipart([b"header", data], copy=False)

        began = time.process_time()
        sending = threading.Thread(target=send)
        sending.start()
        for _ in range(count):
            receiver.recv_multipart(copy=False)
        sending.join()
        return 1e6 * (time.process_time() - began) / count


def measure() -> dict[str, dict[str, float]]:
    keys = agent_keys("the benchmark's own secret, long enough")
    result = {}
    for kind, (size, count) in SIZES.items():
        plain, secured = [], []
        for _ in range(REPETITIONS):
            plain.append(cpu_us_per_message(None, size, count))
            secured.append(cpu_us_per_message(keys, size, count))
        result[kind] = {
            "bytes": size,
            "plain_us": statistics.median(plain),
            "secured_us": statistics.median(secured),
            "ratio": statistics.median(s / p for p, s in zip(plain, secured, strict=True)),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    result = measure()
    sys.stdout.write(f"{'message':<10}{'bytes':>9}{'plain us':>11}{'secured us':>12}{'ratio':>8}\n")
    for kind, row in result.items():
        sys.stdout.write(
            f"{kind:<10}{row['bytes']:>9.0f}{row['plain_us']:>11.1f}{row['secured_us']:>12.1f}{row['ratio']:>8.2f}\n"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
