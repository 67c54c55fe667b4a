"""`gpt149 log`: how a kernel came to be what it is, as `check --watch --log` saw it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import datetime
from difflib import unified_diff
from pathlib import Path
from typing import Any

import click

from ..check.run import Report
from ..errors import Gpt149Error, InputError, MissingDependency
from ..system.files import read_text, reason
from ..system.paths import write_whole
from ..system.tables import Table
from ..system.words import one_line

KEYS = ("time", "verdict", "cause", "ms", "added", "removed")
SIZE = (8, 4)  # inches


def path_of(kernel: Path) -> Path:
    """Where the log of a kernel's file is kept: mine.log.jsonl beside mine.cpp."""
    return kernel.with_suffix(".log.jsonl")


class Log:
    """The work log of a kernel's file, a line of JSON for each verdict."""

    def __init__(self, kernel: Path) -> None:
        self.kernel = kernel
        self.before: list[str] | None = None
        self.now: list[str] | None = None

    def look(self) -> None:
        """The file has just been read by the compiler: what is saved from now on is the next."""
        try:
            self.now = self.kernel.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:  # gone, which the verdict says
            self.now = []

    def add(self, judged: Report | Gpt149Error) -> None:
        """Append what became of it. How much the first of a session changed is unknown.

        Raises:
            InputError: the log cannot be written.
        """
        if self.now is None:  # it was not compiled
            self.look()
        first, now = self.before is None, self.now or []
        difference = unified_diff(self.before or [], now, n=0, lineterm="")
        changes = [line[:1] for line in difference][2:]
        report = judged if isinstance(judged, Report) else None
        entry = {
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            "verdict": "PASS" if report and report.right else "FAIL",
            "cause": _cause(judged),
            "ms": round(report.speed.seconds * 1e3, 4) if report and report.speed else None,
            "added": None if first else changes.count("+"),
            "removed": None if first else changes.count("-"),
        }
        self.before, self.now = now, None
        log = path_of(self.kernel)
        try:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as e:
            raise InputError(f"cannot write {log}: {reason(e)}.") from e


def _cause(judged: Report | Gpt149Error) -> str:
    if isinstance(judged, Gpt149Error):
        return one_line(str(judged).partition("\n")[0], 80)
    if judged.right or judged.fault:
        return judged.fault.what if judged.fault else ""
    return judged.findings[0].cause if judged.findings else "unknown"


def run(kernel: Path, png: Path | None) -> None:
    """Print the log of a kernel's file as a Markdown table, or draw its times into a PNG file.

    Raises:
        InputError: there is no log, or it holds something else.
        MissingDependency: there is no matplotlib to draw with.
    """
    log = path_of(kernel)
    if not log.exists():
        raise InputError(
            f"there is no {log}. `gpt149 check {kernel} --watch --log` keeps one from now on."
        )
    entries = [
        _entry(line, f"{log}, line {i}")
        for i, line in enumerate(read_text(log).splitlines(), 1)
        if line.strip()
    ]
    if png is not None:
        _draw(entries, png, kernel.name)
        click.echo(f"{png}", err=True)
        return
    click.echo("| time | verdict | cause | ms | lines |\n|---|---|---|---:|---:|")
    for entry in entries:
        cause = entry["cause"].replace("|", "\\|")
        ms = "" if entry["ms"] is None else f"{entry['ms']:.4g}"
        lines = "" if entry["added"] is None else f"+{entry['added']} -{entry['removed']}"
        click.echo(
            f"| {entry['time']:%m-%d %H:%M} | {entry['verdict']} | {cause} | {ms} | {lines} |"
        )


def _entry(line: str, where: str) -> dict[str, Any]:
    """A line's values: `time` a datetime; ms, added and removed numbers or None.

    Raises:
        InputError: it is no line of a log.
    """
    try:
        table = Table(json.loads(line), where, KEYS)
        time = datetime.fromisoformat(table.values["time"])
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise InputError(f"{where} is no entry of a work log. Take the line out.") from e
    entry: dict[str, Any] = {"time": time, "cause": one_line(str(table.values.get("cause", "")))}
    entry["verdict"] = table.word("verdict", "", ("PASS", "FAIL"))
    for key in ("ms", "added", "removed"):
        there = table.values.get(key) is not None
        entry[key] = table.number(key, 0, 0, 1e12) if there else None
    return entry


def _draw(entries: Sequence[dict[str, Any]], png: Path, title: str) -> None:
    """Time a call over verdicts: right ones in a line, wrong ones as crosses at the bottom."""
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError as e:
        raise MissingDependency("--png needs matplotlib: pip install 'gpt149[plot]'.") from e
    timed = [(i, entry["ms"]) for i, entry in enumerate(entries, 1) if entry["ms"] is not None]
    wrong = [i for i, entry in enumerate(entries, 1) if entry["verdict"] == "FAIL"]
    figure, axes = pyplot.subplots(figsize=SIZE)
    if timed:
        axes.plot(*zip(*timed, strict=True), marker="o", label="right: ms a call")
        axes.set_yscale("log")
    at_bottom = axes.get_xaxis_transform()
    axes.plot(wrong, [0.03] * len(wrong), "x", transform=at_bottom, label="wrong")
    axes.set(xlabel="save", ylabel="ms", title=title)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    pyplot.close(figure)
    write_whole(png, drawn.getvalue())
