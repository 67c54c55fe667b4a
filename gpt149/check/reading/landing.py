"""Where does a row of out go? Each row is told by its values from all others, so it is found again
wherever it lands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from ..arena import place
from .mask import ROUGH
from .probe import Probe

AXES = ("batch", "head", "token")


def read_landing(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Rows that stand in other rows' places, and in what order of memory they would be right."""
    case = probe.case
    q, k = (t.astype(np.float64) for t in (probe.gentle, probe.drawn[1][:, probe.kv_head]))
    right = case.scale_value * (q @ k.swapaxes(-1, -2))
    weights = np.where(probe.mask, np.exp(right - right.max(-1, keepdims=True)), 0)
    want = np.einsum(
        "bhqk,bhkd->bhqd",
        weights / weights.sum(-1, keepdims=True),
        probe.drawn[2][:, probe.kv_head].astype(np.float64),
    )
    got = probe.bench.ask(case, probe.gentle, *probe.drawn[1:])
    if got is None or case.head_dim < 4:
        return
    rows = want.reshape(-1, case.head_dim)
    shape = want.shape[:3]
    moved: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    home = strange = 0
    taken = set[int]()
    for place_, row in zip(np.ndindex(shape), got.reshape(-1, case.head_dim), strict=True):
        if not np.isfinite(row).all():
            continue
        off = np.abs(rows - row).max(1)
        of = int(off.argmin())
        if off[of] < ROUGH and np.partition(off, 1)[1] > 10 * ROUGH:  # no two rows alike
            if of in taken:  # two rows alike: it is what they hold that is wrong, not where
                return
            taken.add(of)
            source = tuple(map(int, np.unravel_index(of, shape)))
            if source == place_:
                home += 1
            else:
                moved.append((source, place_))
        elif off[of] > 10 * ROUGH:
            strange += 1
    if len(moved) < max(2, 0.2 * (len(rows) - home)):
        return
    late = {to[2] - source[2] for source, to in moved}
    if strange and len(late) == 1 and all(source[:2] == to[:2] for source, to in moved):
        # Rows that only changed places would all be there.
        (step,) = late
        source, to = moved[0]
        yield (
            "q_owner",
            f"{_named(to)} uses the q of query {source[2]}: Q is read {abs(step)} rows too "
            f"{'early' if step > 0 else 'late'} ({len(moved)} rows; others use what lies beyond)",
        )
        return
    strides = place(case)["out"].strides
    for order in permutations(range(3)):
        steps = [0, 0, 0]
        step = case.head_dim
        for axis in reversed(order):
            steps[axis] = step
            step *= shape[axis]
        if all(
            sum(s * n for s, n in zip(source, steps, strict=True))
            == sum(p * n for p, n in zip(to, strides, strict=True))
            for source, to in moved
        ):
            layout = ", ".join(AXES[axis] for axis in order)
            yield (
                "out_layout",
                f"out is written as contiguous memory of ({layout}, dim), whatever its strides "
                "are: "
                f"the row of {_named(moved[0][0])} lands in the place of {_named(moved[0][1])}",
            )
            return
    yield (
        "rows_misplaced",
        f"rows of out land in other rows' places: that of {_named(moved[0][0])} in the place of "
        f"{_named(moved[0][1])} ({len(moved)} rows)",
    )


def _named(row: tuple[int, ...]) -> str:
    return f"(batch {row[0]}, head {row[1]}, query {row[2]})"
