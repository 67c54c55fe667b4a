"""Softmax does not change when all scores move by a constant: what changes then is the maximum."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..judge import softmax
from .mask import ROUGH
from .probe import F32, Array, Illegible, Probe
from .where import where

FAR = 300.0  # beyond what exp holds in floats, either way
FARTHER = 1e5
HALVINGS = 16


def read_shifts(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """What happens where all scores are far above 0, and far below."""
    probe, still = undisturbed(probe)
    changed = {shift: _changed(probe, shift, still) for shift in (FAR, -FAR, -FARTHER)}
    wrong = [shift for shift in changed if changed[shift].any()]
    rows = "; ".join(
        f"moved {'up' if shift > 0 else 'down'} by {abs(shift):g}: {where(changed[shift])}"
        for shift in wrong
        if not changed[shift].all()
    )
    which = f" ({rows})" if rows else ""
    sees_all: NDArray[np.bool_] = np.all(probe.mask, axis=1)
    hidden = np.broadcast_to(~sees_all[:, None], still.shape)
    if (
        FAR not in wrong
        and wrong
        and np.array_equal(changed[-FARTHER], hidden)
        and not hidden.all()
    ):
        yield (
            "mask_leaks",
            "hidden keys get weight where scores are low: the mask is a number that is put "
            f"in their place or added (about {_where_it_changes(probe, still):.2g}), and "
            "not -infinity",
        )
    elif FAR in wrong and changed[FAR].all():
        yield (
            "no_max",
            f"exp overflows where all scores move up by {FAR:g}, which must change nothing: "
            f"the row's maximum is not subtracted{which}",
        )
    elif wrong and FAR not in wrong:
        yield (
            "max_starts_high",
            f"exp underflows where all scores move down by {-max(wrong):g}, which must change "
            "nothing: what is subtracted is above the row's maximum (it starts at 0 or another "
            f"number, takes in what is padding, or is that of |s|){which}",
        )
    elif wrong:
        yield (
            "max_wrong",
            f"the output changes where all scores move up or down by {FAR:g}, which must change "
            "nothing: what is subtracted is not the row's maximum (it starts at 0, or leaves "
            f"keys out){which}",
        )


def undisturbed(probe: Probe) -> tuple[Probe, F32]:
    """The probe on normal inputs, and what it gives for small scores that are not moved.

    Raises:
        Illegible: that is wrong already: the fault is not a matter of the maximum.
    """
    probe = Probe(probe.bench, replace(probe.case, inputs="normal"))
    if probe.case.head_dim < 2:
        raise Illegible
    still = _shifted(probe, 0)
    q, k = 0.5 * probe.gentle, probe.drawn[1].copy()
    q[..., 0], k[..., 0] = 1, 0
    if still is None or not close(still, attention(probe, q, k), ROUGH):
        raise Illegible
    return probe, still


def attention(probe: Probe, q: F32, k: F32) -> Array:
    """What these queries and keys should give with the case's own values."""
    k = k[:, probe.kv_head]
    s = probe.case.scale_value * (q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2))
    p = softmax(s, np.broadcast_to(probe.mask, s.shape))
    return np.asarray(p @ probe.drawn[2][:, probe.kv_head], np.float64)


def close(a: F32, b: Array, allowed: float) -> bool:
    """Whether all of a is near b, relative to b's largest; NaN is not."""
    return bool((np.abs(a - b) <= allowed * np.abs(b).max()).all())


def _where_it_changes(probe: Probe, still: F32) -> float:
    """How far down scores move before the output changes."""
    same, other = 0.0, -FARTHER
    for _ in range(HALVINGS):
        middle = (same + other) / 2
        if _changed(probe, middle, still).any():
            other = middle
        else:
            same = middle
    return other + math.log(ROUGH)  # for so much do they weigh there


def _shifted(probe: Probe, shift: float) -> F32 | None:
    """Out where every score is small, and moved by this; None where nothing comes back."""
    q, k, v = (t.copy() for t in probe.drawn)
    q[...] = 0.5 * probe.gentle
    q[..., 0] = 1
    k[..., 0] = shift / probe.case.scale_value
    return probe.bench.ask(probe.case, q, k, v)


def _changed(probe: Probe, shift: float, still: F32) -> NDArray[np.bool_]:
    """Which values change, with their rows: (batch, n_head, n_q, head_dim)."""
    # A score of `shift` is rounded by so much, and what it weighs with it.
    allowed = (ROUGH + abs(shift) * 2.0**-20) * np.abs(still).max()
    moved = _shifted(probe, shift)
    if moved is None:
        return np.ones(still.shape, dtype=bool)
    rows = ~(np.abs(moved - still) <= allowed).all(-1, keepdims=True)
    return np.broadcast_to(rows, still.shape)
