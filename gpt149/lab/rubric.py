"""Points as a course has them: what a part is worth, when it is right, what its speed costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..system.tables import Table, read_table
from ..system.words import duration
from .parts import ACCESS, ACCESS_POINTS, PARTS

CONFIDENCE = 0.95
LEAST_ROUNDS = 6  # fewer give no interval of that confidence
ROUNDS = 11


@dataclass(frozen=True)
class Limit:
    """Up to a wall time in seconds, or in multiples of the reference's, this share of the points.

    Neither is given: for whatever is slower.
    """

    share: float
    seconds: float | None = None
    within: float | None = None


@dataclass(frozen=True)
class Terms:
    """What one part is worth.

    right: the share of the cases that must be right. partial: where fewer are, that share of the
    points, not none. beyond: what the assignment does not ask (scores that overflow, an odd d)
    counts. hidden: the share of the points for hidden cases, where there are any. speed: from the
    fastest limit to the slowest; empty: it is not in the grade.
    """

    points: float
    right: float = 1.0
    partial: bool = False
    beyond: bool = False
    hidden: float = 0.5
    speed: tuple[Limit, ...] = ()

    def share_of(self, right: float) -> float:
        """The share of the points where so many of the cases are right, before speed."""
        if right >= self.right:
            return 1.0
        return right if self.partial else 0.0


def _stanfords() -> dict[str, Terms]:
    return {ACCESS: Terms(2 * ACCESS_POINTS), **{part.name: Terms(part.points) for part in PARTS}}


@dataclass(frozen=True)
class Rubric:
    """terms: of each part, ACCESS among them. rounds: of a timing that is in the grade. path: where
    it was written, if it is not Stanford's.
    """

    terms: Mapping[str, Terms] = field(default_factory=_stanfords)
    rounds: int = ROUNDS
    path: Path | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Speed:
    """What a part's wall time costs it: the share of its points that stays, and why."""

    share: float
    sentence: str


def read_rubric(path: Path) -> Rubric:
    """The rubric of a file (docs/lab.md); what it does not name is as Stanford's.

    Raises:
        InputError: the file cannot be read, or says what means nothing.
    """
    terms = _stanfords()
    whole = Table(read_table(path), str(path), ("rounds", *terms))
    for name, usual in terms.items():
        if name not in whole.values:
            continue
        known = ("points", "right", "partial", "beyond", "hidden", "speed")
        table = Table(whole.values[name], f"{path}, {name}", known[:1] if name == ACCESS else known)
        terms[name] = Terms(
            table.number("points", usual.points, 0, 1e6),
            table.number("right", 100, 1, 100) / 100,
            table.flag("partial"),
            table.flag("beyond"),
            table.number("hidden", 50, 0, 100) / 100,
            _limits(table),
        )
    return Rubric(terms, whole.whole("rounds", ROUNDS, LEAST_ROUNDS, 1000), path)


def _limits(table: Table) -> tuple[Limit, ...]:
    limits = list[Limit]()
    for i, values in enumerate(table.list("speed"), 1):
        one = Table(values, f"{table.where}, speed {i}", ("share", "seconds", "within"))
        limits.append(
            Limit(
                one.number("share", 100, 0, 100) / 100,
                one.number("seconds", 1, 1e-9, 1e6) if "seconds" in one.values else None,
                one.number("within", 100, 1e-3, 1e6) / 100 if "within" in one.values else None,
            )
        )
        one.must(
            limits[-1].seconds is None or limits[-1].within is None,
            "give seconds or within (percent of the reference), not both",
        )
    bounds = [(limit.seconds, limit.within) for limit in limits]
    if bounds and bounds[-1] == (None, None):
        bounds.pop()
    kinds = {(seconds is None, within is None) for seconds, within in bounds}
    table.must(
        len(kinds) < 2 and (True, True) not in kinds,
        "the limits of speed must be all seconds, or all within; the last alone may have neither",
    )
    values = [seconds or within or 0 for seconds, within in bounds]
    table.must(values == sorted(values), "the limits of speed must ascend")
    shares = [limit.share for limit in limits]
    table.must(shares == sorted(shares, reverse=True), "what is slower must not earn more")
    return tuple(limits)


def judged_speed(
    limits: Sequence[Limit], student: Sequence[float], reference: Sequence[float]
) -> Speed:
    """What wall times of rounds in turn, in seconds, are worth; either may be empty.

    Points are lost where the whole interval lies beyond a limit, so that noise costs nobody any.
    """
    slowest = limits[-1] if limits[-1].seconds is limits[-1].within is None else Limit(0.0)
    if not student:
        return Speed(slowest.share, "the call that is timed did not return")
    relative = any(limit.within for limit in limits)
    if relative and not reference:
        return Speed(1.0, "the reference could not be timed: speed is not in the grade")
    taken = (
        [mine / theirs for mine, theirs in zip(student, reference, strict=True)]
        if relative
        else list(student)
    )
    low, high = interval(taken)
    limit = next((one for one in limits if low <= (one.seconds or one.within or math.inf)), slowest)
    say = _percent if relative else duration
    bound = limit.seconds or limit.within
    sentence = (
        f"{say(statistics.median(taken))}{' of the reference' if relative else ''} "
        f"({_percent(CONFIDENCE)}: {say(low)} to {say(high)}, {len(taken)} rounds in turn): "
        f"{f'within {say(bound)}' if bound else 'beyond every limit'}, "
        f"{_percent(limit.share)} of the points"
    )
    return Speed(limit.share, sentence)


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """Where the median of what they are drawn from lies: from one of them to another.

    Source: the sign test's interval, by order statistics; no distribution is assumed.
    """
    n = len(samples)
    outside, k = 2 * 0.5**n, 1  # of the interval from the k-th smallest to the k-th largest
    while (wider := outside + 2 * math.comb(n, k) * 0.5**n) <= 1 - CONFIDENCE:
        outside, k = wider, k + 1
    ordered = sorted(samples)
    return ordered[k - 1], ordered[-k]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
