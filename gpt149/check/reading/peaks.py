"""Over which scores is the maximum taken? One of them at a time is far above the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from .mask import ROUGH
from .probe import F32, Illegible, Probe
from .shifts import FAR, attention, close, undisturbed
from .words import ranges

PEAKS = 5
SPOILED = 0.05  # relative: what underflows is off by far more


def read_peaks(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Keys that the maximum leaves out; heads and queries that it takes in."""
    probe, _ = undisturbed(probe)
    if probe.case.n_kv < 3:
        return
    yield from _keys(probe) or _heads(probe) or _queries(probe)


def read_hidden_peaks(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Does the maximum take in keys that the query may not see?"""
    probe, _ = undisturbed(probe)
    if probe.case.n_kv < 3:
        return
    for j in _peaks(probe.case):
        hidden = ~probe.mask[:, j]
        if hidden.any() and not np.isfinite(_with_peak(probe, j)[:, :, hidden]).all():
            yield (
                "max_starts_high",
                f"a high score of key {j} spoils the queries that may not see it: the maximum is "
                "taken over hidden keys as well, and all that is seen underflows",
            )
            return


def _peaks(case: Case) -> list[int]:
    return [int(j) for j in np.unique(np.linspace(0, case.n_kv - 1, PEAKS).astype(int))]


def _with_peak(probe: Probe, j: int) -> F32:
    """Out where key j has a high score, and all others 0."""
    q, k = np.zeros_like(probe.drawn[0]), np.zeros_like(probe.drawn[1])
    q[..., 0], k[:, :, j, 0] = 1, FAR / probe.case.scale_value
    out = probe.bench.ask(probe.case, q, k, probe.drawn[2])
    if out is None:
        raise Illegible
    return out


def _keys(probe: Probe) -> list[tuple[str, str]]:
    case, v = probe.case, probe.drawn[2]
    missed = []
    for j in _peaks(case):
        out = _with_peak(probe, j)
        if not close(out[0, 0, -1], v[0, 0, j].astype(np.float64), ROUGH):
            missed.append(j)
    if len(missed) >= min(PEAKS, case.n_kv):
        said = (
            f"where one score is {FAR:g} above the others, out is not its key's value: exp of what "
            "is so far below the maximum must be 0, and wraps, or is clamped too high"
        )
        return [("exp_wrong", said)]
    if missed:
        said = (
            f"a score of {FAR:g} of key {ranges(missed)} alone overflows or is lost: the row's "
            "maximum leaves it out"
        )
        return [("max_wrong", said)]
    return []


def _heads(probe: Probe) -> list[tuple[str, str]]:
    if probe.case.n_head == 1:
        return []
    spoiled = _spoiled(probe, np.s_[:, 0], (0, 2, 3))
    if not spoiled[1:].any() or spoiled[1:].all():
        return []
    return [_shared("head 0", "heads", spoiled)]


def _queries(probe: Probe) -> list[tuple[str, str]]:
    if probe.case.n_q < 3:
        return []
    i = probe.case.n_q // 2
    spoiled = _spoiled(probe, np.s_[:, :, i], (0, 1, 3))
    others = np.delete(spoiled, i)
    if not others.any() or others.all():
        return []
    return [_shared(f"query {i}", "queries", spoiled)]


def _spoiled(
    probe: Probe, high: tuple[slice | int, ...], axes: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where out is off, over these axes, when all scores of some queries are high."""
    case = probe.case
    q, k = np.zeros_like(probe.drawn[0]), probe.drawn[1].copy()
    q[high][..., 0], k[..., 0] = FAR / case.scale_value, 1
    q[..., 1] = 1 / case.scale_value
    out, right = probe.bench.ask(case, q, k, probe.drawn[2]), attention(probe, q, k)
    if out is None:
        raise Illegible
    off = ~(np.abs(out - right) <= SPOILED * np.abs(right).max())
    return np.asarray(off.any(axes))


def _shared(of: str, kind: str, spoiled: NDArray[np.bool_]) -> tuple[str, str]:
    return (
        "max_starts_high",
        f"high scores of {of} spoil {kind} {ranges(np.flatnonzero(spoiled))}: one maximum is "
        f"taken for several {kind}, and what is far below it underflows",
    )
