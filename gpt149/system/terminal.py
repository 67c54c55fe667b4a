"""The standard streams, and one line on the terminal that says how far something is."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from .words import duration

ERASE = "\r\033[2K"
QUIET_SECONDS, TICK_SECONDS = 1.0, 0.25


def open_standard_streams() -> None:
    """Give descriptors 0 to 2 back what a shell took with `>&-`, before a file gets their number.

    Writing to stdout still fails as it would, so that no text is lost in silence.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            found = os.open(os.devnull, os.O_RDWR if name == "stderr" else os.O_RDONLY)
            os.dup2(found, number)
            if found != number:
                os.close(found)
            os.set_inheritable(number, True)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115, to the end


def discard_unwritten() -> None:
    """Let nothing that stdout and stderr could not write be tried again when Python ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def columns_of(terminal: TextIO) -> int:
    """How wide a terminal is."""
    return os.get_terminal_size(terminal.fileno()).columns or 80


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """What is told of its progress stands in one line of stderr, from the second second on.

    Pipes get nothing. The line is erased at the end, and before anything is logged.
    """
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    line = _Line()
    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(line.erased)
    line.start()
    try:
        yield line.tell
    finally:
        line.over.set()
        line.join()
        for handler in handlers:
            handler.removeFilter(line.erased)


class _Line(threading.Thread):
    """Draws the line, also while a step takes long."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._step, self._drawn = "", False

    def tell(self, step: str) -> None:
        self._step = step

    def erased(self, _record: logging.LogRecord | None = None) -> bool:
        """Erase what is drawn. True: a filter that lets everything pass."""
        if self._drawn:
            print(ERASE, end="", file=sys.stderr, flush=True)
            self._drawn = False
        return True

    def run(self) -> None:
        start, wait = time.monotonic(), QUIET_SECONDS
        while not self.over.wait(wait):
            seconds, wait = int(time.monotonic() - start), TICK_SECONDS
            if not self._step:
                continue
            so_long = f"{seconds} s" if seconds < 60 else duration(seconds)
            text = f"{self._step} ({so_long})"[: columns_of(sys.stderr) - 1]
            self._drawn = True
            print(f"{ERASE}{text}", end="", file=sys.stderr, flush=True)
        self.erased()
