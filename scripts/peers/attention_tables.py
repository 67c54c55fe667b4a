"""What attention measured, as Markdown: kernels beside the best peer, and every peer's time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEAD = (
    "| row | kernel | its time | best peer | its time | ratio | of what the machine can do |\n"
    "|---|---|---:|---|---:|---:|---:|"
)


@dataclass
class Entry:
    """What came of a peer on a row.

    n_threads: with which it is fastest. trial: seconds of a call, inf where there is none, which
    `why` explains. samples: seconds of a call, a round each; none of who was far behind.
    """

    n_threads: int
    trial: float = math.inf
    why: str = ""
    samples: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(self.samples) if self.samples else self.trial

    def told(self) -> str:
        if self.seconds == math.inf:
            return self.why
        about = "" if self.samples else "about "
        return f"{about}{told_time(self.seconds)} ({self.n_threads})"


def lines(
    row: str, entries: Mapping[str, Entry], kernels: Sequence[str], ceiling: str
) -> list[str]:
    """A line for each kernel: it, the best peer, and the share of the ceiling."""
    rivals = {
        name: entry
        for name, entry in entries.items()
        if name not in kernels and name != ceiling and entry.samples
    }
    best = min(rivals, key=lambda name: rivals[name].seconds, default="")
    found = []
    for name in kernels:
        mine, bound = entries[name], entries.get(ceiling)
        cells = [row, name, told_time(mine.seconds) if mine.samples else mine.why]
        if best:
            cells += [best, told_time(rivals[best].seconds), ratio(mine, rivals[best])]
        else:
            cells += [""] * 3
        cells.append(share(mine, bound) if bound else "")
        found.append(f"| {' | '.join(cells)} |")
    return found


def times(by_row: Mapping[str, Mapping[str, Entry]]) -> str:
    """Every peer's median on every row, and its threads, or why there is none."""
    names = list(dict.fromkeys(name for entries in by_row.values() for name in entries))
    table = [f"| row | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for row, entries in by_row.items():
        cells = [entries[name].told() if name in entries else "" for name in names]
        table.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(table)


def ratio(mine: Entry, other: Entry) -> str:
    """The median over the rounds of a ratio of times, and from where to where."""
    if not mine.samples or not other.samples:
        return ""
    found = [a / b for a, b in zip(mine.samples, other.samples, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def share(mine: Entry, bound: Entry) -> str:
    if not mine.samples or not bound.samples:
        return ""
    found = [b / a for a, b in zip(mine.samples, bound.samples, strict=True)]
    return f"{statistics.median(found):.0%}"


def told_time(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:,.1f} us"
