"""Children's lines on one terminal, each with its writer's name, and in full in a file per child."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape

COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
NAME_WIDTH = 8
MAX_FILE_BYTES = 20 * 2**20
TAIL_LINES = 15
LONGEST_LINE_BYTES = 64 * 1024


class Terminal:
    """Everything that people read goes through here."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._colours: dict[str, str] = {}

    def say(self, text: str, *, style: str = "bold") -> None:
        """One line of the supervisor's own."""
        self.console.print(escape(text), style=style, highlight=False, soft_wrap=True)

    def child_line(self, name: str, line: str) -> None:
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        prefix = f"[{colour}]{escape(name):<{NAME_WIDTH}}[/] "
        self.console.print(prefix + escape(line), highlight=False, soft_wrap=True)


class LineWriter:
    """Cuts one child's bytes into lines: to the terminal, to its file, and the last ones kept."""

    def __init__(self, path: Path, show: Callable[[str], None]) -> None:
        self._path, self._show = path, show
        self._rest = b""
        self._file: BinaryIO = path.open("ab")
        self.tail: list[str] = []

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._take(line)

    def close(self) -> None:
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        self._file.close()

    def _take(self, raw: bytes) -> None:
        if self._file.tell() > MAX_FILE_BYTES:
            self._file.seek(0)
            self._file.truncate()
        self._file.write(raw + b"\n")
        self._file.flush()
        line = raw.decode(errors="replace").rstrip()
        if line:
            self.tail = [*self.tail[-(TAIL_LINES - 1) :], line]
            self._show(line)
