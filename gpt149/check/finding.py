"""What a diagnosis finds, and words for where it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Finding:
    """cause: a short name, or several joined by ' + '. share: of the failing cases, explained.

    case: the name of the case that shows it, if it was not looked for in all of them. of: the
    variants in whose calls it was looked for alone: findings of others stand beside it.
    """

    cause: str
    sentence: str
    evidence: str
    share: float
    case: str = ""
    of: str = ""

    @property
    def partial(self) -> bool:
        """Whether it fits some failing cases, and less than half: not what is wrong with all."""
        return 0 < self.share < 0.5


def once(findings: Iterable[Finding]) -> list[Finding]:
    """The first of each cause: two ways to find it are one finding."""
    found = dict[tuple[str, str], Finding]()
    for finding in findings:
        found.setdefault((finding.of, finding.cause), finding)
    return list(found.values())


def describe_rows(marked: NDArray[np.bool_]) -> str:
    """Which queries are marked, in words: `queries 32-36 in every head`."""
    rows = np.any(marked, axis=3)  # (batch, n_head, n_q)
    of_any = np.flatnonzero(np.any(rows, axis=(0, 1)))
    ranges = np.split(of_any, np.flatnonzero(np.diff(of_any) > 1) + 1)
    texts = [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in ranges[:4]]
    queries = f"queries {', '.join(texts)}{', ...' if len(ranges) > 4 else ''}"
    heads = np.any(rows, axis=2)
    if heads.all():
        return f"{queries} in every head"
    b, h = np.argwhere(heads)[0]
    return f"{queries} in {heads.sum()} of {heads.size} heads (first: batch {b}, head {h})"
