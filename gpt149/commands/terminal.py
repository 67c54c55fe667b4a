"""What a terminal gets and a pipe does not: colours, whole words, what comes next."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from typing import TextIO

import click

from ..system.terminal import columns_of

GREEN, RED, YELLOW, BOLD, RESET = "\033[1;32m", "\033[1;31m", "\033[1;33m", "\033[1m", "\033[0m"
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
        report = wrapped(report, columns_of(stream))
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


def hint(text: str) -> None:
    """Say on stderr what could be done next."""
    if sys.stderr.isatty():
        click.echo(text, err=True)
