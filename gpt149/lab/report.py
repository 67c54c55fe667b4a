"""A judged submission as text, as a table, as CSV, and as an autograder's results.json."""

from __future__ import annotations

import csv
import io
import platform
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .. import __version__
from ..system.words import one_line
from .access import NAMES as ACCESSORS
from .parts import HIDDEN, PARTS, Part
from .run import ALLOWANCE, Result, Submission
from .timing import Timing

COLUMNS = (*ACCESSORS, *(part.name for part in PARTS))
WITH_HIDDEN = (*ACCESSORS, *(n for part in PARTS for n in (part.name, part.name + HIDDEN)))
LINE = "-" * 43
ERROR = re.compile(r"[^/\n]+: (?:fatal )?error: .*")  # a compiler's first
_HEADER = f"{'':<44}{'cpu time':>12}{'wall time':>12}{'mem usage':>18}{'peak RSS':>12}"


def as_text(submission: Submission) -> str:
    """What a student reads: every part with its verdict, the reason, and the times."""
    if submission.error:
        return submission.error
    lines = []
    access = [r for r in submission.results if r.name in ACCESSORS]
    if access:
        lines.append("Running 4D Access Test")
        lines += [f"{r.status.upper()} {r.name}: {r.report}." for r in access] + [""]
    for part in PARTS:
        for result in submission.results:
            if result.name.removesuffix(HIDDEN) == part.name:
                besides = ", hidden cases" if result.name.endswith(HIDDEN) else ""
                lines += [f"Running {part.title}{besides}", *_part(part, result), ""]
    return "\n".join(lines).rstrip()


def part0(timing: Timing | None, n: int) -> str:
    """Times of torch's own attention, which is no student's."""
    lines = [f"Running part 0 test: torch's scaled_dot_product_attention, N = {n}", _HEADER]
    return "\n".join([*lines, _times("TORCH", timing)] if timing else lines)


def _part(part: Part, result: Result) -> Iterator[str]:
    notes = [f"Note: {note}." for note in result.notes]
    if result.status == "wrong":
        yield f"{LINE}\nYOUR ATTENTION PRODUCED INCORRECT RESULTS"
        yield from notes  # before the report, which is long
        yield result.report
    else:
        yield f"{result.status.upper()}: {result.report}."
        yield from notes
    if result.student and result.reference:
        yield _HEADER
        yield _times(f"REFERENCE - {part.label}", result.reference)
        yield _times(f"STUDENT - {part.label}", result.student)
        if not result.speed:
            yield _allowance(part, result)
    if result.speed:
        yield f"Wall time {result.speed}."


def _times(label: str, t: Timing) -> str:
    return (
        f"{label:<44}{t.cpu * 1e3:>10.1f}ms{t.wall * 1e3:>10.1f}ms{t.memory:>12,} bytes"
        f"{'+' + str(t.growth >> 10):>9} KB"
    )


def _allowance(part: Part, result: Result) -> str:
    if part is PARTS[-1]:
        return "Part 4 is judged on correctness alone."
    within = "more than" if result.slow else "within"
    return (
        f"Wall time {within} {ALLOWANCE * 1e3:.0f} ms behind the reference (advisory: it "
        f"is gpt149's '{part.reference}', not Stanford's)."
    )


def gradescope(submission: Submission) -> dict[str, Any]:
    """The results.json of Gradescope's autograder: a score, a test for each part, a leaderboard."""
    return {
        "score": submission.points,
        "execution_time": round(submission.seconds, 1),
        "output": submission.error or "Judged by gpt149 lab.",
        "tests": [
            {
                "name": result.name,
                "score": result.points,
                "max_score": result.most,
                "status": "passed" if result.status == "right" else "failed",
                "visibility": "after_published" if result.name.endswith(HIDDEN) else "visible",
                "output": "\n".join(
                    (result.status, result.report, *result.notes, result.speed)
                ).strip(),
                "extra_data": {"cause": result.cause},
            }
            for result in submission.results
        ],
        "leaderboard": [row for result in submission.results for row in _leaders(result)],
        "extra_data": {
            "gpt149": __version__,
            "machine": platform.processor() or platform.machine(),
            "causes": {r.name: r.cause or r.status for r in submission.results},
        },
    }


def _leaders(result: Result) -> Iterator[dict[str, Any]]:
    """The times of a right part."""
    if result.status == "right" and result.student:
        ms = round(result.student.wall * 1e3, 3)
        yield {"name": f"{result.name}, ms", "value": ms, "order": "asc"}
        if result.reference:
            times = round(result.student.wall / result.reference.wall, 2)
            yield {"name": f"{result.name}, x reference", "value": times, "order": "asc"}


def header(submissions: Sequence[Submission]) -> tuple[str, ...]:
    """The columns of a table: all parts, and those of hidden cases that there are."""
    there = {result.name for submission in submissions for result in submission.results}
    named = [name for name in WITH_HIDDEN if name in COLUMNS or name in there]
    return ("submission", *named, "points", "seconds", "why")


def rows(submissions: Sequence[Submission]) -> list[dict[str, str]]:
    """One row a submission: `right`, or the mistake, for each part; points; seconds; why it could
    not be judged.
    """
    found = []
    for submission in submissions:
        row = {"submission": submission.path}
        for result in submission.results:
            if result.name in WITH_HIDDEN:
                row[result.name] = result.cause or result.status
        row["points"] = f"{submission.points:g}"
        row["seconds"] = f"{submission.seconds:.1f}"
        said = ERROR.search(submission.error)
        row["why"] = one_line(said[0] if said else submission.error.partition("\n")[0])
        found.append(row)
    return found


def as_table(submissions: Sequence[Submission]) -> str:
    """The rows in columns."""
    names = header(submissions)
    shown = [{k: one_line(text, len(text)) for k, text in row.items()} for row in rows(submissions)]
    lines = [dict(zip(names, names, strict=True)), *shown]
    widths = {name: max(len(line.get(name, "")) for line in lines) for name in names}
    return "\n".join(
        "  ".join(line.get(name, "").ljust(widths[name]) for name in names).rstrip()
        for line in lines
    )


def as_csv(submissions: Sequence[Submission]) -> str:
    """The rows as comma-separated values, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, header(submissions), restval="")
    writer.writeheader()
    writer.writerows(rows(submissions))
    return out.getvalue()
