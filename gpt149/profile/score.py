"""How good is `profile`? Kernels that are slow in one known way: is it named, and how soon?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..bench.ceilings import Ceilings
from ..bench.shapes import parse
from ..check.score import said
from ..errors import InputError
from .report import BOUND
from .run import profile

SHAPE = "4,512,64"  # if a kernel's file names no other
NOTHING = "nothing"  # the cause of a kernel that is a control
HEAD = ("kernel", "shape", "cause", "rank", "said first", "gain", "seconds")
SHIPPED: Sequence[
    tuple[str, str, tuple[str, ...]]
] = (  # kernel, shape, and its causes, of which either may come first
    ("naive", "12,512,64", ("horizontal_sums", "single_thread")),
    ("simd", "12,1024,64", (NOTHING,)),
    ("simd", "12,1x16384,64", (NOTHING,)),
)


@dataclass(frozen=True)
class Entry:
    """A kernel, and why it is slow on a shape: for any of these causes."""

    spec: str
    shape: str
    expected: tuple[str, ...]

    @property
    def control(self) -> bool:
        return self.expected == (NOTHING,)


@dataclass(frozen=True)
class Score:
    """What was said of an entry. causes: all of them, the worthiest first. gain: of the first."""

    kernel: str
    shape: str
    expected: str
    causes: Sequence[str]
    gain: float
    sentence: str
    control: bool
    rank: int | None  # of the expected cause, from 1
    seconds: float

    @property
    def alarm(self) -> bool:
        """Whether it is called slow, and should not be."""
        return self.control and bool(self.causes) and self.causes[0] not in BOUND

    @property
    def missed(self) -> bool:
        return not self.control and self.rank not in (1, 2)


def entries(folder: Path) -> list[Entry]:
    """The kernels of a folder that say `// cause: NAME`, and may say `// shape: SHAPE`; ours too.

    Raises:
        InputError: there are none, as in an installed wheel, or one does not say it.
    """
    own = []
    for file in sorted(folder.glob("*.cpp")):
        text = file.read_text(encoding="utf-8")
        if not (cause := said(text, "cause")):
            raise InputError(f"{file} does not say why it is slow: `// cause: NAME`.")
        own.append(Entry(str(file), said(text, "shape") or SHAPE, (cause,)))
    if not own:
        raise InputError(f"no kernels in {folder}: --self-test needs a checkout.")
    return [*own, *(Entry(*one) for one in SHIPPED)]


def score(entry: Entry, most: Ceilings) -> Score:
    """Profile a kernel, and hold what is said against what is known."""
    start = time.monotonic()
    found = profile(entry.spec, [parse(entry.shape)], most, lambda _step: None)[0]
    names = [cause.name for cause in found.causes]
    ranks = [names.index(name) + 1 for name in entry.expected if name in names]
    first = found.causes[0] if found.causes else None
    return Score(
        Path(entry.spec).stem,
        entry.shape,
        " or ".join(entry.expected),
        names,
        first.gain if first else 1.0,
        first.sentence if first else "",
        entry.control,
        min(ranks, default=None),
        time.monotonic() - start,
    )


def totals(scores: Sequence[Score]) -> dict[str, Any]:
    """Counts over all of them, and the median and the largest time of a profile in seconds."""
    seconds = [s.seconds for s in scores]
    return {
        "slow": sum(not s.control for s in scores),
        "first": sum(s.rank == 1 for s in scores),
        "within_two": sum(s.rank in (1, 2) for s in scores),
        "controls": sum(s.control for s in scores),
        "false_alarms": sum(s.alarm for s in scores),
        "median_seconds": median(seconds),
        "worst_seconds": max(seconds),
    }


def as_text(scores: Sequence[Score]) -> str:
    """A table, one line a kernel, and the totals. Below a miss stands what was said first."""
    rows = [HEAD, *map(_row, scores)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row, s in zip(rows, [None, *scores], strict=True):
        lines.append("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
        if s and (s.alarm or s.missed):
            lines.append(f"  {'a false alarm' if s.alarm else 'missed'}: {_told(s)}")
    t = totals(scores)
    return "\n".join(
        [
            *lines,
            "",
            f"{t['slow']} slow kernels: {t['first']} with their cause first ("
            f"{t['first'] / t['slow']:.0%}), {t['within_two']} within the first two; "
            f"{t['controls']} controls, {t['false_alarms']} called slow.",
            f"A profile took {t['median_seconds']:.1f} s (median), {t['worst_seconds']:.1f} s at "
            "worst.",
        ]
    )


def _row(s: Score) -> tuple[str, ...]:
    rank = "-" if s.control else str(s.rank or "none")
    first = s.causes[0] if s.causes else "nothing"
    figures = (f"{s.gain:.2g}x" if s.gain > 1 else "", f"{s.seconds:.1f}")
    return (s.kernel, s.shape, s.expected, rank, first, *figures)


def _told(s: Score) -> str:
    return f"{', '.join(s.causes) or 'nothing is said'}. {s.sentence}".rstrip()


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """The same for programs."""
    return {"kernels": [asdict(s) for s in scores], "totals": totals(scores)}
