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
from .edges import edge
from .head import centred
from .keys import which
from .probe import Array, Illegible, Probe
from .vectors import TINY, Vectors, lack_of, mild, read_sinks, read_slopes, rough, weights_of
from .widths import read_widths
from .words import ranges

MILD = 4.0  # a softcap that bends usual scores
TILES = (4, 8, 16, 32, 64, 128)
CAPS = np.geomspace(0.05, 1000, 80)
Said = tuple[str, str]


def read_variant(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """What is read of the variants that the calls need; of the first that shows something."""
    cheap = [o for o in wrong if o.case.layout != "far" and o.case.n_kv <= 60 * o.case.width]
    cheap.sort(key=lambda o: (o.case.inputs != "normal", _little(o.case), o.case.work))
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


def _little(case: Case) -> bool:
    """Whether there is little to read from."""
    all_or_one = case.window and not 4 < case.window < case.n_kv
    return bool(case.n_q == 1 or all_or_one or case.softcap > MILD)


def _said(probe: Probe) -> Iterator[Said]:
    case, own = probe.case, probe.drawn[0]
    q, given = np.zeros_like(own), mild(case)
    setup = _setup(probe, q, given)
    got, wanted = weights_of(probe, q, given), _right_weights(setup)
    if case.softcap:
        yield from _leaks(case, got, setup)
    if case.window or case.kv_begin:
        yield from _seen(case, got, wanted, setup)
    if not (case.sinks or case.alibi):
        yield from _besides(case, got, setup.masks)
    if case.sinks:
        yield from read_sinks(probe, got, setup)
        yield from _extreme_sinks(probe, setup)
    if case.alibi:
        yield from read_slopes(probe, given, setup)
    if case.softcap:
        yield from _capped(case, weights_of(probe, own, given), _setup(probe, own, given))
    if case.head_dim_v:
        yield from read_widths(probe)


def _setup(probe: Probe, q: NDArray[np.float32], given: Vectors) -> Setup:
    setup = right(probe.case, *(t.astype(np.float64) for t in (q, *probe.drawn[1:])))
    sinks = given.get("sinks")
    return setup if sinks is None else replace(setup, sinks=sinks.astype(np.float64))


def _right_weights(setup: Setup) -> Array:
    scores, masks = setup.scores(), setup.masks
    if setup.sinks is not None:
        scores, _, masks = with_sinks(setup.sinks, scores, setup.v[:, setup.kv_head], masks)
    _, p, l = exp_rows(scores, masks[:, None])
    weights: Array = np.nan_to_num(p / l)[..., : setup.case.n_kv]
    return weights


def _seen(case: Case, got: Array, wanted: Array, setup: Setup) -> Iterator[Said]:
    """Keys that a query sees and should not, or the reverse."""
    told = np.broadcast_to(np.asarray(setup.masks.any(-1))[:, None, :, None], got.shape)
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
    rule = edge(sees, should, case, setup.begins)
    if rule:
        what, where = f"{rule}: where {what}", ""
    else:
        what = f"where {what}"
    yield (
        f"{cause}_wrong",
        f"{what}, query {i} of batch {b} (at position {i + case.n_kv - case.n_q}) sees "
        f"{_keys(sees[b, h, i])}, and should see {_keys(should[b, h, i])}{where}",
    )


def _leaks(case: Case, got: Array, setup: Setup) -> Iterator[Said]:
    """Hidden keys that have the weight of a score: of -softcap, where that is."""
    hidden = np.broadcast_to(~setup.masks[:, None], got.shape)
    leaks = hidden & (got > TINY)
    if not leaks.any():
        return
    seen = np.where(hidden, 0, got).max(-1, keepdims=True)
    scores = np.log(np.maximum(got, TINY) / np.maximum(seen, TINY))[leaks & (seen > TINY)]
    if not scores.size or np.abs(scores + case.softcap).max() > 3 * rough(case):
        return
    _, h, i, j = np.argwhere(leaks)[0]
    yield (
        "softcap_behind_mask",
        "the softcap comes behind the mask: hidden keys get the score -softcap, and weight with "
        f"it (first: key {j} for query {i} of head {h}; {int(leaks.any(-1).sum())} of "
        f"{leaks[..., 0].size} rows have such)",
    )


def _besides(case: Case, got: Array, masks: NDArray[np.bool_]) -> Iterator[Said]:
    """What the sum has besides the keys that are seen, where all of these weigh the same."""
    n, first = masks.sum(-1)[:, None], masks.argmax(-1)[:, None]
    total = got.sum(-1)
    told = (n > 0) & (total > TINY)
    held = np.where(told, n / np.maximum(total, TINY), n)
    near = np.broadcast_to(2 * rough(case) * case.n_kv, held.shape)
    if np.abs(held - n).max() < near.max():
        return
    hidden = case.n_kv - n
    rules = [("the keys that are hidden before a row's first", first), ("all hidden keys", hidden)]
    if case.causal:
        rules.append(("the keys that the causal mask hides", hidden - first))
    tiles = ((f"the hidden keys of the tile of {m} in which a row begins", m) for m in TILES)
    rules += [(text, first % m) for text, m in tiles]
    for text, more in rules:
        if (np.abs(held - n - more) < near)[told].all():
            yield "sum_wrong", f"the sum l also has {text}, whose values do not count"
            return
    b, h, i = (int(x) for x in np.unravel_index(np.abs(held - n).argmax(), held.shape))
    yield (
        "sum_wrong",
        f"the weights do not add up to 1: of query {i} (batch {b}, head {h}), with all scores 0, "
        f"to {total[b, h, i]:.4g}, as if the sum l held {held[b, h, i]:.4g} keys instead of "
        f"{n[b, 0, i]}",
    )


def _keys(seen: NDArray[np.bool_]) -> str:
    return f"the keys {ranges(np.flatnonzero(seen))}" if seen.any() else "no key"


def _extreme_sinks(probe: Probe, setup: Setup) -> Iterator[Said]:
    """What becomes of sinks far above and far below all scores, where near ones are right."""
    case, own = probe.case, probe.drawn
    sinks = case.vectors()["sinks"]
    try:
        probe.out()
        total = probe.out(q=np.zeros_like(own[0]), v=np.ones_like(own[2]))
    except Illegible:
        yield (
            "sinks_overflow",
            "where sinks lie far from the scores out is NaN or infinite, and near them it is "
            "right: exp is of sink - m, m the maximum of the scores and the sink",
        )
        return
    lack, sees = lack_of(total), np.asarray(setup.masks.any(-1))[:, None]
    low, high = (sinks < -100)[:, None] & (lack > rough(case)), (sinks > 100)[:, None]
    for wrong, side, leaves in (
        (low & sees, "below", "all"),
        (high & (lack < 1 - rough(case)) & sees, "above", "none"),
    ):
        for b, h, i in np.argwhere(wrong)[:1]:
            yield (
                "sinks_wrong",
                f"a sink of {sinks[h]:.0f}, far {side} all scores, leaves a row "
                f"{1 - lack[b, h, i]:.4g} of its weight, and should leave {leaves} (batch {b}, "
                f"head {h}, query {i}); mild sinks are right",
            )


def _capped(case: Case, got: Array, setup: Setup) -> Iterator[Said]:
    """Another cap, or what a score counts as."""
    wanted = _right_weights(setup)
    usable = (got > TINY) & (wanted > TINY)
    off = centred(np.log(np.maximum(got, TINY)) - setup.scores(), usable)
    if np.abs(off).max() < rough(case):
        return
    logs = centred(np.log(np.maximum(got, TINY)), usable)

    def residual(cap: float) -> float:
        scores = centred(replace(setup, softcap=float(cap)).scores(), usable)
        return float(np.abs(scores - logs).max())

    near = min(CAPS, key=residual)
    for width in (0.13, 0.004):
        near = min(near * np.linspace(1 - width, 1 + width, 81), key=residual)
    if residual(near) < rough(case) + 0.02:
        yield (
            "softcap_wrong",
            f"scores are capped at {near:.4g}, and should be at softcap = {case.softcap:g}",
        )
        return
    raw = replace(setup, softcap=0.0).scores()
    # Scores are known but for a constant of each row: one near 0 shows it, for no cap moves it.
    zero = np.where(usable, np.abs(raw), np.inf).argmin(-1)[..., None]
    counts = np.log(np.maximum(got, TINY))
    counts = counts - np.take_along_axis(counts - setup.scores(), zero, -1)
    nearly = np.abs(np.take_along_axis(raw, zero, -1)) < 0.1 * case.softcap
    tells = usable & nearly & (np.abs(raw - setup.scores()) > 10 * rough(case))
    uncapped = np.abs(counts - raw) < rough(case)
    others = np.abs(counts - setup.scores()) < rough(case)
    if (uncapped | others)[tells].all() and (keys := which(uncapped, tells, case)):
        yield "softcap_left_out", f"the softcap is left out for {keys}"
        return
    off = np.where(usable & nearly, np.abs(counts - setup.scores()), 0)
    b, h, i, j = (int(n) for n in np.unravel_index(off.argmax(), off.shape))
    yield (
        "softcap_wrong",
        f"a score of {raw[b, h, i, j]:.4g} counts as {counts[b, h, i, j]:.4g}, and capped at "
        f"{case.softcap:g} it is {setup.scores()[b, h, i, j]:.4g} (query {i}, key {j}, head {h})",
    )
