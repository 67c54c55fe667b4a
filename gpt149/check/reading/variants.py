"""What does a kernel do with a variant? Its weights beside the right ones, all products being 0.

Then scores are the slopes' alone, the mask is bare, and what a row lacks of 1 is its sink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..finding import Finding
from ..mistakes import Setup, right
from ..mistakes.setup import exp_rows, with_sinks
from ..observe import Bench, Observation
from .probe import Array, Illegible, Probe
from .words import ranges

TINY = 1e-12
ROUGH = 2e-3  # of log P
MOST_SHOWN = 3  # heads, or batches
Said = tuple[str, str]


def read_variant(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """What is read of the variants that the calls need; of the first that shows something."""
    cheap = [o for o in wrong if o.case.layout != "far" and o.case.n_kv <= 60 * o.case.width]
    cheap.sort(key=lambda o: (o.case.inputs != "normal", o.case.n_q == 1, o.case.work))
    for o in cheap[:3]:
        probe = Probe(bench, replace(o.case, calls="once"))
        try:
            with np.errstate(all="ignore"):
                found = next(_said(probe), None)
        except Illegible:
            continue
        if found:
            evidence = f"read from its weights in '{o.case.name}'"
            return [Finding(*found, evidence, 1.0, o.case.name)]
    return []


def _said(probe: Probe) -> Iterator[Said]:
    case = probe.case
    q = np.zeros_like(probe.drawn[0])
    got, wanted, setup = _weights(probe, q), _right_weights(case, q, probe), _setup(case, q, probe)
    if case.window or case.kv_begin:
        yield from _seen(case, got, wanted, setup)
    if case.sinks:
        yield from _sinks(case, got, setup)
    if case.alibi:
        yield from _slopes(case, got, wanted)
    if case.softcap:
        own = probe.drawn[0]
        yield from _capped(case, _weights(probe, own), _right_weights(case, own, probe))


def _weights(probe: Probe, q: NDArray[np.float32]) -> Array:
    """The kernel's, for these queries and the case's own keys: (batch, n_head, n_q, n_kv)."""
    case = probe.case
    p = np.empty((case.batch, case.n_head, case.n_q, case.n_kv))
    for start in range(0, case.n_kv, case.width):
        n = min(case.width, case.n_kv - start)
        v = np.zeros_like(probe.drawn[2])
        v[:, :, np.arange(start, start + n), np.arange(n)] = 1
        p[..., start : start + n] = probe.out(q=q, v=v)[..., :n]
    return p


def _setup(case: Case, q: NDArray[np.float32], probe: Probe) -> Setup:
    return right(case, *(t.astype(np.float64) for t in (q, *probe.drawn[1:])))


def _right_weights(case: Case, q: NDArray[np.float32], probe: Probe) -> Array:
    setup = _setup(case, q, probe)
    scores, masks = setup.scores(), setup.masks
    if setup.sinks is not None:
        scores, _, masks = with_sinks(setup.sinks, scores, setup.v[:, setup.kv_head], masks)
    _, p, l = exp_rows(scores, masks[:, None])
    weights: Array = np.nan_to_num(p / l)[..., : case.n_kv]
    return weights


def _seen(case: Case, got: Array, wanted: Array, setup: Setup) -> Iterator[Said]:
    """Keys that a query sees and should not, or the reverse; with high sinks, none is told."""
    told = wanted.any(-1, keepdims=True) & (wanted.max(-1, keepdims=True) > TINY)
    told |= ~np.asarray(setup.masks.any(-1))[:, None, :, None]
    sees, should = (got > TINY) & told, np.broadcast_to(setup.masks[:, None], got.shape) & told
    # What slopes push far down may vanish.
    odd = (sees != should) & ((wanted > 1e3 * TINY) | ~should)
    if not odd.any():
        return
    b, h, i, _ = np.argwhere(odd)[0]
    cause = "kv_begin" if case.kv_begin and not case.window else "window"
    what = f"kv_begin = {setup.begins[b]}" if setup.begins is not None else ""
    what += (", " if what and case.window else "") + (
        f"window = {case.window}" if case.window else ""
    )
    rows = odd.any((1, 3))
    where = "" if rows.all() else f"; so it is in {int(rows.sum())} of {rows.size} rows"
    yield (
        f"{cause}_wrong",
        f"where {what}, query {i} of batch {b} (at position {i + case.n_kv - case.n_q}) sees "
        f"{_keys(sees[b, h, i])}, and should see {_keys(should[b, h, i])}{where}",
    )


def _keys(seen: NDArray[np.bool_]) -> str:
    return f"the keys {ranges(np.flatnonzero(seen))}" if seen.any() else "no key"


def _sinks(case: Case, got: Array, setup: Setup) -> Iterator[Said]:
    """The sink that a row's lack of weight amounts to."""
    assert setup.sinks is not None
    scores, masks = setup.scores(), setup.masks
    m, _, l = exp_rows(scores, masks[:, None])
    keys = (m + np.log(l))[..., 0]
    lack = 1 - got.sum(-1)
    found = np.log(lack / (1 - lack)) + keys
    readable = (np.abs(setup.sinks) < 8)[:, None] & np.isfinite(keys)
    readable &= (lack > ROUGH) & (lack < 1 - ROUGH)
    off = np.where(readable, np.abs(found - setup.sinks[:, None]), 0)
    missing = np.isfinite(keys) & (np.abs(setup.sinks) < 3)[:, None] & (lack <= ROUGH)
    taken = np.isfinite(keys) & (setup.sinks < -100)[:, None] & (lack > ROUGH)
    odd = (off > 0.05) | missing | taken
    if not odd.any():
        return
    b, h, i = map(int, np.argwhere(odd)[0])
    value = "nothing" if missing[b, h, i] else f"{found[b, h, i]:.4g}"
    yield (
        "sinks_wrong",
        f"with all products 0, the weights of query {i} in head {h} add up to "
        f"{1 - lack[b, h, i]:.4g}: the sink counts as {value}, and should as {setup.sinks[h]:.4g}",
    )


def _slopes(case: Case, got: Array, wanted: Array) -> Iterator[Said]:
    """How log P rises from key to key, in each head."""
    usable = (got > TINY) & (wanted > TINY)
    both = usable[..., 1:] & usable[..., :-1]
    rises, should = (np.diff(np.log(np.maximum(p, TINY)), axis=-1) for p in (got, wanted))
    off = np.where(both, np.abs(rises - should), 0)
    if off.max() < ROUGH:
        return
    b, h, i, j = (int(n) for n in np.unravel_index(off.argmax(), off.shape))
    heads = np.flatnonzero((off > ROUGH).any((0, 2, 3)))
    steady = np.ptp(rises[b, h, i][both[b, h, i]]) < ROUGH
    yield (
        "slopes_wrong",
        f"with all products 0, scores of query {i} rise by {rises[b, h, i, j]:.4g} from key {j} to "
        f"key {j + 1}{' as from each to the next' if steady else ''} in head {h}, and should by "
        f"its slope {should[b, h, i, j]:.4g} (heads {ranges(heads)})",
    )


def _capped(case: Case, got: Array, wanted: Array) -> Iterator[Said]:
    """Two scores of a row, and by how much they differ in effect."""
    usable = (got > TINY) & (wanted > TINY)
    enough = usable.sum(-1) > 1
    high, low = np.where(usable, wanted, -1).argmax(-1), np.where(usable, wanted, 2).argmin(-1)
    taken, should = (
        np.log(
            np.take_along_axis(p, high[..., None], -1) / np.take_along_axis(p, low[..., None], -1)
        )
        for p in (got, wanted)
    )
    off = np.where(enough, np.abs(taken - should)[..., 0], 0)
    if off.max() < ROUGH:
        return
    b, h, i = (int(n) for n in np.unravel_index(off.argmax(), off.shape))
    yield (
        "softcap_wrong",
        f"the scores of keys {high[b, h, i]} and {low[b, h, i]} of query {i}, head {h}, count as "
        f"if they differed by {taken[b, h, i, 0]:.4g}, and capped at {case.softcap:g} they differ "
        f"by {should[b, h, i, 0]:.4g}",
    )
