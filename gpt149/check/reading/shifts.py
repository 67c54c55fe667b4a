"""Softmax does not change when all scores move by a constant: what changes then is the maximum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .mask import ROUGH
from .probe import Array, Illegible, Probe

FAR = 300.0  # beyond what exp holds in floats, either way
FARTHER = 1e5


def read_shifts(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """What happens where all scores are far above 0, and far below."""
    if probe.case.head_dim < 2:
        return
    try:
        still = _shifted(probe, 0)
    except Illegible:
        return
    wrong = [shift for shift in (FAR, -FAR, -FARTHER) if not _same(probe, shift, still)]
    if FAR in wrong and -FAR not in wrong:
        yield (
            "no_max",
            f"exp overflows where all scores move up by {FAR:g}, which must change nothing: "
            "the row's "
            "maximum is not subtracted",
        )
    elif wrong and FAR not in wrong:
        yield (
            "max_too_high",
            f"exp underflows where all scores move down by {-max(wrong):g}, which must change "
            "nothing: "
            "what is subtracted is above the row's maximum (it starts at 0 or another number, "
            "or is "
            "that of |s|)",
        )
    elif wrong:
        yield (
            "max_wrong",
            f"the output changes where all scores move up or down by {FAR:g}, which must "
            "change nothing: "
            "what is subtracted is not the row's maximum",
        )


def _shifted(probe: Probe, shift: float) -> Array:
    """Out where every score is small, and moved by this."""
    q, k, v = (t.copy() for t in probe.drawn)
    q[...] = 0.5 * probe.gentle
    q[..., 0] = 1
    k[..., 0] = shift / probe.case.scale_value
    return probe.out(q=q, k=k, v=v)


def _same(probe: Probe, shift: float, still: Array) -> bool:
    # A score of `shift` is rounded by so much, and what it weighs with it.
    allowed = ROUGH + abs(shift) * 2.0**-20
    try:
        return bool(np.abs(_shifted(probe, shift) - still).max() <= allowed * np.abs(still).max())
    except Illegible:
        return False
