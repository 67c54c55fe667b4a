"""What a terminal gets and a pipe does not: colours, whole words, what goes on, what comes next."""

from __future__ import annotations

import logging
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from ..system.words import duration

GREEN, RED, YELLOW, BOLD, RESET = "\033[1;32m", "\033[1;31m", "\033[1;33m", "\033[1m", "\033[0m"
ERASE = "\r\033[2K"
# Verdicts begin a line, behind the time of day where there is one, or stand in a table's column.
LEAD = r"(^(?:\d\d:\d\d:\d\d )?|  )"
BAD = (
    "FAIL|WRONG|REJECTED|NOT IMPLEMENTED|DOES NOT COMPILE|DOES NOT LOAD|CANNOT BE JUDGED"
    "|YOUR ATTENTION PRODUCED INCORRECT RESULTS"
)
STYLES = {
    re.compile(rf"{LEAD}(PASS|RIGHT)\b", re.MULTILINE): GREEN,
    re.compile(rf"{LEAD}({BAD})\b", re.MULTILINE): RED,
    re.compile(rf"{LEAD}(SLOW|SLOWER|Wall time more than .* behind)\b", re.MULTILINE): YELLOW,
    re.compile(r"(^ +Cause: )([^:\n]+)", re.MULTILINE): BOLD,
}
KEPT = re.compile(r"\S  |^ *Rerun: |^\$ ")  # tables, and what is copied: not for breaking
QUIET_SECONDS, TICK_SECONDS = 1.0, 0.25


def coloured(stream: TextIO) -> bool:
    """Whether text for the stream has colours: as the environment says, else on terminals."""
    if os.environ.get("NO_COLOR"):
        return False
    if any(
        os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")
    ):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()


def show(report: str, *, err: bool = False) -> None:
    """Print a report, its verdicts and causes in colour where there is any; err: to stderr."""
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        report = wrapped(report, _columns(stream))
    colour = coloured(stream)
    if colour:
        report = painted(report)
    click.echo(report, err=err, color=colour or None)  # None: click finds out


def painted(report: str) -> str:
    """The report with its verdicts and causes in colour."""
    for pattern, style in STYLES.items():
        report = pattern.sub(rf"\1{style}\2{RESET}", report)
    return report


def wrapped(report: str, columns: int) -> str:
    """The report with its long sentences broken between words."""
    return "\n".join(
        line
        if len(line) <= columns or KEPT.search(line)
        else textwrap.fill(
            line,
            columns,
            subsequent_indent=line[: len(line) - len(line.lstrip())] + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in report.split("\n")
    )


def _columns(terminal: TextIO) -> int:
    return os.get_terminal_size(terminal.fileno()).columns or 80


def hint(text: str) -> None:
    """Say on stderr what could be done next."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


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
            so_long = f"{seconds} s" if seconds < 60 else duration(seconds)
            text = f"{self._step} ({so_long})"[: _columns(sys.stderr) - 1]
            self._drawn = True
            print(f"{ERASE}{text}", end="", file=sys.stderr, flush=True)
        self.erased()
