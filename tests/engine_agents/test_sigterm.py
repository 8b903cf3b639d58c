from __future__ import annotations

import signal
import subprocess
import sys

SCRIPT = """
import asyncio, ctypes, os, threading
from engine_agents.sigterm import listen_to_signals, on_sigterm

def told():
    print("told", flush=True)
    count.append(1)
    if len(count) == 2:
        os._exit(7)

count = []
if {listening}:
    listen_to_signals()
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
print(on_sigterm(loop, told), flush=True)
while True:
    ctypes.CDLL(None).pause()  # As Ray's loop: Python's own handlers never run.
"""


def start(*, listening: bool) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SCRIPT.replace("{listening}", str(listening))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_a_process_whose_main_thread_is_in_c_hears_of_each_sigterm():
    with start(listening=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == "told\n"
        assert process.wait(30) == 7


def test_where_nobody_listens_sigterm_ends_the_process():
    with start(listening=False) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
