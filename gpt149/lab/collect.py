"""Results of many machines as those of one class: what `--format json` wrote, file by file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from glob import glob
from html import escape
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..system.files import read_json
from ..system.page import page, section
from ..system.words import brief
from .report import WITH_HIDDEN, as_table, header, rows
from .run import Result, Submission

UNREADABLE = "no results"  # the status of a file that is not what `--format json` writes
BAR = 40  # characters, or percent of the class in a page's
Mistake = tuple[str, str, int]  # part, cause, in how many submissions


def collect(pattern: str) -> list[Submission]:
    """The submissions in the files that the pattern names, in the order of their names.

    A file that cannot be used is a submission whose error says why. `**` is any folders.

    Raises:
        InputError: there are no such files.
    """
    paths = sorted(glob(pattern, recursive=True))
    if not paths:
        raise InputError(
            f"there are no files {pattern}: `gpt149 lab MODULE --format json -o FILE` writes one."
        )
    return [submission for path in paths for submission in _of_file(Path(path))]


def _of_file(path: Path) -> list[Submission]:
    try:
        found = read_json(path, InputError, object)
        described = found if isinstance(found, list) else [found]
        return [_submission(one) for one in described]
    except InputError as e:
        return [Submission(str(path), [Result(UNREADABLE, 0, 0, UNREADABLE)], str(e))]
    except (KeyError, TypeError, ValueError, OverflowError) as e:
        why = f"{path} is not what `gpt149 lab --format json` writes: {brief(e)}."
        return [Submission(str(path), [Result(UNREADABLE, 0, 0, UNREADABLE)], why)]


def _submission(values: Any) -> Submission:
    results = [_result(one) for one in values["results"]]
    seconds = _number(values["seconds"])
    return Submission(_text(values["path"]), results, _text(values["error"]), seconds)


def _result(values: Any) -> Result:
    """Of what a class's table has; reports and times stay in the file."""
    name, status, cause = (_text(values[key]) for key in ("name", "status", "cause"))
    if name not in WITH_HIDDEN:
        raise ValueError(f"there is no part {name!r}")
    return Result(name, _number(values["points"]), _number(values["most"]), status, cause)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{brief(value)} is no text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{brief(value)} is no number")
    return value


def mistakes(submissions: Sequence[Submission]) -> list[Mistake]:
    """What the class got wrong: part by part, the most frequent first."""
    counts = Counter(
        (result.name, cause)
        for submission in submissions
        for result in submission.results
        if result.status not in ("right", UNREADABLE)
        # Several mistakes in one part are joined by a plus.
        for cause in (result.cause or result.status).split(" + ")
    )
    order = {name: i for i, name in enumerate(WITH_HIDDEN)}
    found = [(part, cause, n) for (part, cause), n in counts.items()]
    return sorted(found, key=lambda one: (order[one[0]], -one[2], one[1]))


def as_text(submissions: Sequence[Submission]) -> str:
    """The class's table, and below it the histogram of its mistakes."""
    found = mistakes(submissions)
    n = len(judged(submissions))
    lines = [as_table(submissions), "", _summary(submissions)]
    width = max((len(cause) for _, cause, _ in found), default=0)
    for part, cause, count in found:
        bar = "#" * max(1, round(BAR * count / n))
        lines.append(f"{part:<13}  {cause:<{width}}  {count:>4}  {bar}")
    return "\n".join(lines)


def judged(submissions: Sequence[Submission]) -> list[Submission]:
    """Those of which there are results."""
    return [s for s in submissions if all(r.status != UNREADABLE for r in s.results)]


def _summary(submissions: Sequence[Submission]) -> str:
    there = judged(submissions)
    right = sum(s.right for s in there)
    missing = len(submissions) - len(there)
    mean = sum(s.points for s in there) / max(1, len(there))
    said = f"{len(there)} submissions, {right} right in all that was asked, {mean:.1f} points each."
    return said + (f" {missing} without results: see why." if missing else "")


def as_html(submissions: Sequence[Submission]) -> str:
    """The same as a page."""
    n = max(1, len(judged(submissions)))
    bars = [
        f"<tr><td>{escape(part)}</td><td>{escape(cause)}</td><td data-sort={count}>{count}</td>"
        f'<td class="word"><span class="bar" style="width:{BAR * count / n / 2:.2f}rem"></span> '
        f"{100 * count / n:.0f} %</td></tr>"
        for part, cause, count in mistakes(submissions)
    ]
    columns = header(submissions)
    table = ["<tr>" + "".join(_cells(row, columns)) + "</tr>" for row in rows(submissions)]
    return page(
        "gpt149 lab: a class",
        {"Submissions": str(len(submissions))},
        [_summary(submissions)],
        [
            section("Mistakes", ("part", "mistake", "submissions", "share"), bars),
            section("Submissions", columns, table),
        ],
    )


def _cells(row: Mapping[str, str], columns: Sequence[str]) -> Iterator[str]:
    for name in columns:
        text = row.get(name, "")
        number = name in ("points", "seconds")
        kind = f"data-sort={text}" if number else 'class="word"'
        yield f"<td {kind}>{escape(text)}</td>"
