"""A judged submission as text, as a table, as CSV, and as an autograder's results.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ..system.words import one_line
from .access import NAMES as ACCESSORS
from .parts import PARTS, Part
from .run import ALLOWANCE, Result, Submission
from .timing import Timing

COLUMNS = (*ACCESSORS, *(part.name for part in PARTS))
HEADER = ("submission", *COLUMNS, "points", "seconds", "why")
LINE = "-" * 43
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
            if result.name == part.name:
                lines += [f"Running {part.title}", *_part(part, result), ""]
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
    """The results.json of Gradescope's autograder: a score, and a test for each part."""
    tests = [
        {
            "name": result.name,
            "score": result.points,
            "max_score": result.most,
            "status": "passed" if result.status == "right" else "failed",
            "output": "\n".join(
                (result.status, result.report, *result.notes, result.speed)
            ).strip(),
        }
        for result in submission.results
    ]
    return {
        "score": submission.points,
        "execution_time": round(submission.seconds, 1),
        "output": submission.error or "Judged by gpt149 lab.",
        "tests": tests,
    }


def rows(submissions: Sequence[Submission]) -> list[dict[str, str]]:
    """One row a submission: `right`, or the mistake, for each part; points; seconds; why it could
    not be judged.
    """
    found = []
    for submission in submissions:
        row = {"submission": submission.path}
        for result in submission.results:
            if result.name in COLUMNS:
                row[result.name] = result.cause or result.status
        row["points"] = f"{submission.points:g}"
        row["seconds"] = f"{submission.seconds:.1f}"
        row["why"] = one_line(submission.error.partition("\n")[0])
        found.append(row)
    return found


def as_table(submissions: Sequence[Submission]) -> str:
    """The rows in columns."""
    lines = [dict(zip(HEADER, HEADER, strict=True)), *rows(submissions)]
    widths = {name: max(len(line.get(name, "")) for line in lines) for name in HEADER}
    return "\n".join(
        "  ".join(line.get(name, "").ljust(widths[name]) for name in HEADER).rstrip()
        for line in lines
    )


def as_csv(submissions: Sequence[Submission]) -> str:
    """The rows as comma-separated values, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, HEADER, restval="")
    writer.writeheader()
    writer.writerows(rows(submissions))
    return out.getvalue()
