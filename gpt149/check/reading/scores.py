"""What is a score made of, and what a weight?

log P is the score but for a constant of its row. So how log P follows q_x k_x says which dims count
and by how much; what of it does not follow the score says what the softmax does with scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .mask import ROUGH
from .probe import Array, Probe
from .words import factor, ranges

LEAST = 1e-35  # of a weight: smaller ones may be subnormal numbers
FITS = 2e-3  # of log P: rounding of scores of some tens, and no mistake worth a name
LEAST_EXP = 5e-5  # relative, that is not rounding
LEAST_SLOPE = 2e-6  # that is not rounding
MOST_EQUATIONS = 4000
MORE_EQUATIONS = 16  # than unknowns: what is left of them says whether they hold
MOST_SCORES = 70_000  # of a head
LEAST_ROWS = 0.1  # of those that could, show a step between blocks
WINDOW = 5  # neighbouring distances, over which a function of them hardly changes
LEAST_KEYS = 24  # of a row that is looked at for steps
MOST_JUMPS = 0.25  # of its keys
MOST_STEPS = 4  # that are at no regular places


def read_scores(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Causes and sentences on scores and weights, in the first head that shows something."""
    p, scores = probe.own, probe.scores
    found: dict[str, list[tuple[int, int, str]]] = {}
    if scores[0, 0].size > MOST_SCORES:
        return
    for b in range(p.shape[0]):
        for h in range(p.shape[1]):
            said = _head(probe, p[b, h], scores[b, h], b, h)
            if said:
                found.setdefault(said[0], []).append((b, h, said[1]))
    n_heads = p.shape[0] * p.shape[1]
    for cause, heads in sorted(found.items(), key=lambda item: -len(item[1]))[:1]:
        b, h, sentence = heads[0]
        where = (
            ""
            if len(heads) == n_heads
            else f", in {len(heads)} of {n_heads} heads (first: batch {b}, head {h})"
        )
        yield cause, sentence + where


def _head(probe: Probe, p: Array, s: Array, b: int, h: int) -> tuple[str, str] | None:
    if (p < -ROUGH).any():
        return _raw(probe, p, s)
    usable = probe.mask & (p > LEAST)
    leaks = ~probe.mask & (p > ROUGH) & (probe.flat[b, h] <= LEAST)
    if leaks.any():
        return _leaks(p, s, leaks, probe)
    cut = probe.mask & (p <= LEAST) & (s - _top(s, probe.mask) > -60)
    if cut.any() and not (probe.flat[b, h][cut] <= LEAST).any():
        return _cut_off(probe, p, s, cut)
    rest = _centred(np.log(np.maximum(p, LEAST)) - s, usable)
    if np.abs(rest[usable]).max(initial=0) < FITS:
        return (
            _sums(probe, p, s)
            or _slope(probe, p, s, usable, rest, b, h)
            or _odd_exp(probe, p, s, usable, rest, b, h)
        )
    for read in (_slope, _by_dims, _by_key, _of_score, _left_over, _steps, _odd_exp):
        if said := read(probe, p, s, usable, rest, b, h):
            return said
    return None


def _raw(probe: Probe, p: Array, s: Array) -> tuple[str, str] | None:
    """Weights below 0: no exp went into them."""
    x = np.where(probe.mask, s, 0)
    times = (p * x).sum(1) / np.maximum((x * x).sum(1), LEAST)
    if np.abs(p - times[:, None] * x).max() > ROUGH * np.abs(p).max():
        return "weights_negative", "weights are below 0, which no exp gives"
    return (
        "exp_not_stored",
        "weights are the raw scores, each row divided by a number of its own: exp is summed for "
        "l, but not kept as the weight",
    )


def _top(s: Array, mask: NDArray[np.bool_]) -> Array:
    top: Array = np.where(mask, s, -np.inf).max(-1, keepdims=True)
    return np.where(np.isfinite(top), top, 0)


def _centred(x: Array, usable: NDArray[np.bool_]) -> Array:
    """Less the mean of its row's usable values; 0 elsewhere."""
    n = np.maximum(usable.sum(-1, keepdims=True), 1)
    mean = np.where(usable, x, 0).sum(-1, keepdims=True) / n
    centred: Array = np.where(usable, x - mean, 0)
    return centred


def _sums(probe: Probe, p: Array, s: Array) -> tuple[str, str] | None:
    """Weights that are right against each other: is their sum 1?"""
    sums = np.where(probe.mask, p, 0).sum(-1)
    rows = probe.mask.any(1)
    off = np.abs(sums - 1)
    if off[rows].max(initial=0) < ROUGH:
        return None
    top, l = (
        _top(s, probe.mask)[:, 0],
        np.where(probe.mask, np.exp(s - _top(s, probe.mask)), 0).sum(-1),
    )
    with np.errstate(divide="ignore", over="ignore"):
        more = l / sums - l  # what the sum has besides, in units of the largest weight
    i = int(off.argmax())
    wrong = np.flatnonzero(rows & (off >= ROUGH))
    which = f"queries {ranges(wrong)}" if len(wrong) < rows.sum() else "every query"
    for name, unit in (("exp of a score of 0", np.exp(-top)), ("1", np.ones_like(top))):
        times = more / unit
        if np.allclose(times[rows], np.median(times[rows]), rtol=1e-2, atol=1e-3):
            n = float(np.median(times[rows]))
            return (
                "sum_wrong",
                f"weights are right against each other, but the sum l has {n:.4g} times {name} "
                f"more than it should ({which})",
            )
    return (
        "sum_wrong",
        f"weights are right against each other, but their sum is not 1: the sum l (or the maximum "
        f"that it goes with) is wrong ({which}; query {i} adds up to {sums[i]:.4g})",
    )


def _cut_off(probe: Probe, p: Array, s: Array, cut: NDArray[np.bool_]) -> tuple[str, str]:
    """Keys that count where all scores are 0, and do not for these scores."""
    kept = probe.mask & ~cut
    counts = kept.sum(1)[cut.any(1)]
    lowest = np.where(kept, s, np.inf).min(-1)
    highest = np.where(cut, s, -np.inf).max(-1)
    ordered = bool((highest[cut.any(1)] <= lowest[cut.any(1)] + ROUGH).all())
    if ordered and (counts == counts[0]).all():
        return (
            "top_k",
            f"only the {counts[0]} largest scores of a row count (others weigh 0)",
        )
    gap = (s - _top(s, probe.mask))[cut]
    if ordered:
        return (
            "cut_off",
            f"scores of {-gap.max():.4g} and more below the row's maximum get weight 0",
        )
    keys = np.flatnonzero(cut.any(0))
    return (
        "keys_lost",
        f"keys {ranges(keys)} get weight 0 in some rows though they count where all scores are "
        "equal: what decides is the score",
    )


def _leaks(p: Array, s: Array, leaks: NDArray[np.bool_], probe: Probe) -> tuple[str, str]:
    """Hidden keys that get weight, though they get none where all scores are equal."""
    i, j = np.argwhere(leaks)[0]
    seen = probe.mask[i] & (p[i] > LEAST)
    value = ""
    if seen.any():
        at = int(np.where(seen, p[i], 0).argmax())
        value = f" (about {np.log(p[i, j] / p[i, at]) + s[i, at]:.4g})"
    return (
        "mask_leaks",
        "hidden keys get weight where scores are low or far apart: the mask is a number that "
        "is put "
        f"in their place or added{value}, and not -infinity (first: key {j} for query {i})",
    )


def _slope(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    x, y = _centred(s, usable)[usable], _centred(rest + s, usable)[usable]
    if not len(x) or not x @ x:
        return None
    slope = float(x @ y / (x @ x))
    left = np.abs(y - slope * x).max()
    if left > max(FITS, 2e-4 * np.abs(y).max()):
        return None
    if abs(slope - 1) * np.abs(x).max() < max(4 * left, LEAST_SLOPE * np.abs(x).max()):
        return None
    case = probe.case
    if abs(slope) < 1e-4:
        return "scores_ignored", "the scores do not count: all keys that are seen have equal weight"
    if abs(slope - 1) < 1e-3:
        return (
            "scale_wrong",
            f"the scores are multiplied once more before exp, by 1 {slope - 1:+.2g}: a "
            "constant has too "
            "few digits (the scale, log2(e), ln(2)?)",
        )
    effective = slope * case.scale_value
    return (
        "scale_wrong",
        f"the scores are multiplied once more before exp, by {factor(slope, case.head_dim)}: that "
        f"is a scale of {factor(effective, case.head_dim)} where {case.scale_value:.5g} was "
        "asked for",
    )


def _by_dims(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    """A weight for each dim: 1 is right."""
    case, d = probe.case, probe.case.head_dim
    q, k = (t.astype(np.float64) for t in probe.drawn[:2])
    rows = np.flatnonzero(usable.sum(1) > 1)
    n_keys = max(2, min(case.n_kv, MOST_EQUATIONS // max(1, min(len(rows), 40))))
    a, y = [], []
    for i in rows[-40:]:
        keys = np.flatnonzero(usable[i])[:n_keys]
        terms = case.scale_value * q[b, h, i] * k[b, probe.kv_head[h], keys]
        a.append(terms - terms.mean(0))
        logp = (rest + s)[i, keys]
        y.append(logp - logp.mean())
    if not rows.size or sum(map(len, y)) < d + MORE_EQUATIONS:
        return None
    left, right = np.concatenate(a), np.concatenate(y)
    weights = np.linalg.lstsq(left, right, rcond=None)[0]
    off = np.abs(left @ weights - right)
    if off.max() > max(FITS, 1e-3 * np.abs(right).max()):
        return None
    return _describe_dims(weights, d)


def _describe_dims(weights: Array, d: int) -> tuple[str, str] | None:
    near = {name: np.abs(weights - value) < 0.01 for name, value in (("0", 0), ("1", 1), ("2", 2))}
    if near["1"].all():
        return None
    if (near["0"] | near["1"]).all():
        lost = np.flatnonzero(near["0"])
        tail = lost[0] == d - len(lost)
        return (
            "head_dim_cut" if tail else "dims_left_out",
            f"dims {ranges(lost)} of {d} do not count in the scores",
        )
    if (near["1"] | near["2"]).all():
        return (
            "dims_twice",
            f"dims {ranges(np.flatnonzero(near['2']))} of {d} count twice in the scores",
        )
    odd = np.flatnonzero(~near["1"])
    shown = ", ".join(f"dim {x} by {weights[x]:.3g}" for x in odd[:3])
    return "dims_weighed", f"in the scores dims count by other factors than 1: {shown}"


def _by_key(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    """What is added to a score that depends on the key's place alone, linearly."""
    j = np.broadcast_to(np.arange(probe.case.n_kv, dtype=np.float64), s.shape)
    x, y = _centred(j, usable)[usable], rest[usable]
    if not x.any():
        return None
    slope = float(x @ y / (x @ x))
    if np.abs(y - slope * x).max() > max(FITS, 1e-2 * np.abs(y).max()):
        return None
    per_log2 = f" = 2^{np.log2(abs(slope)):.3g}" if slope else ""
    return (
        "position_bias",
        "a linear bias in the key's place is added to the scores, as ALiBi's: "
        f"{slope:.5g}{per_log2} a key in head {h}",
    )


def _steps(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    """Blocks of keys, right in themselves, that are weighed against each other."""
    both = usable[:, 1:] & usable[:, :-1]
    step = np.where(both, np.diff(rest, axis=1), 0)
    jump = np.abs(step) > 2 * FITS
    n_steps, n_both = jump.sum(1), both.sum(1)
    rows = np.flatnonzero(jump.any(1))
    long = n_both >= LEAST_KEYS
    if not jump[long].any() or (n_steps > MOST_JUMPS * n_both)[long].any():
        return None
    places = np.flatnonzero(jump.any(0)) + 1
    could = both[:, places - 1].any(1)
    if jump.any(1).sum() < LEAST_ROWS * could.sum():
        return None
    blocks = _blocks(places, jump, both)
    if not blocks:
        return None
    signs = step[jump]
    direction = (
        "the earlier blocks weigh too much"
        if (signs < 0).all()
        else "the earlier blocks weigh too little"
        if (signs > 0).all()
        else "some weigh too much, some too little"
    )
    which = f" in queries {ranges(rows)}" if len(rows) < usable.shape[0] - 1 else ""
    return (
        "blocks_weighed",
        f"{blocks} are right among themselves, but weighed wrongly against each other{which}: "
        f"{direction}. Look at the rescaling by the running maximum, or at the merge of splits",
    )


def _blocks(places: NDArray[np.intp], jump: NDArray[np.bool_], both: NDArray[np.bool_]) -> str:
    """The blocks between which weights jump, in words; empty if they are at no regular places."""
    size = int(np.gcd.reduce(places))
    if size > 1 or len(places) <= MOST_STEPS:
        tile = f"tiles of {size} keys" if size > 1 else "blocks of keys"
        return f"{tile} (weights jump at keys {ranges(places)})"
    parts = {}
    for i in np.flatnonzero(jump.any(1) & (both.sum(1) >= LEAST_KEYS)):
        first = int(jump[i].argmax()) + 1
        n = int(both[i].sum()) + 1
        if (np.flatnonzero(jump[i]) + 1).tolist() != list(range(first, n, first)):
            continue
        parts[i] = -(-n // first)
    if not parts:
        return ""
    values, counts = np.unique(list(parts.values()), return_counts=True)
    return f"the {values[counts.argmax()]} parts into which each row's keys are split"


def _left_over(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    """What another head or another row left in the buffer, and is added to the scores."""
    others = [(f"head {e}", e) for e in (h - 1, h + 1, 0) if 0 <= e < probe.case.n_head and e != h]
    rows = usable.sum(1) >= LEAST_KEYS
    for whose, e in others:
        for what, left in (("weights", probe.own[b, e]), ("scores", probe.scores[b, e])):
            x = _centred(left, usable)
            # What is left may not be divided by its sum: then it is so many times as much.
            times = (x * rest).sum(1) / np.maximum((x * x).sum(1), LEAST)
            off = np.where(usable, rest - times[:, None] * x, 0)
            if rows.any() and (
                np.abs(off[rows]).max() < max(FITS, 0.02 * np.abs(rest[rows]).max())
            ):
                return (
                    "scores_accumulated",
                    f"to the scores of head {h} are added the {what} of {whose}, which are "
                    "still in the buffer: it is not cleared before the products are summed into it",
                )
    return None


def _of_score(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    """What exp makes of scores: of the score itself, or of its distance from the maximum."""
    logp = np.log(np.maximum(p, LEAST))
    below = s - _top(s, probe.mask)
    for name, x in (("distance", below), ("score", s)):
        order = np.argsort(x[usable], kind="stable")
        xs = x[usable][order]
        # The row's constant by its largest weight, or (of the score) whatever fits best.
        top = np.where(usable, logp, -np.inf).max(-1, keepdims=True)
        ys = (logp - top if name == "distance" else rest + s)[usable][order]
        said = _clamped(xs, ys) if name == "distance" else None
        if said:
            return said
    cap = _softcap(s, rest + s, usable)
    if cap:
        return (
            "softcap",
            f"scores are capped softly before exp: {cap:.4g} tanh(s / {cap:.4g}) instead of s",
        )
    return None


def _odd_exp(
    probe: Probe, p: Array, s: Array, usable: NDArray[np.bool_], rest: Array, b: int, h: int
) -> tuple[str, str] | None:
    """A function of the distance from the row's maximum that is not exp."""
    logp = np.log(np.maximum(p, LEAST))
    x = (s - _top(s, probe.mask))[usable]
    y = (logp - np.where(usable, logp, -np.inf).max(-1, keepdims=True))[usable]
    order = np.argsort(x)
    x, wrong = x[order], (y - x)[order]
    if len(x) < 64:
        return None
    # Where exp is a function of the distance, and a wrong one, neighbours are wrong alike.
    near = x > -12
    size = np.abs(wrong[near]).max(initial=0)
    if near.sum() < WINDOW or size <= LEAST_EXP:
        return None
    around = np.lib.stride_tricks.sliding_window_view(wrong[near], WINDOW)
    rough = np.quantile(around.max(1) - around.min(1), 0.9)
    if rough < 0.2 * size:
        at = int(np.abs(np.where(near, wrong, 0)).argmax())
        return (
            "exp_wrong",
            "exp is not exp, but a poor approximation: it is off by "
            f"{abs(np.expm1(wrong[at])):.2g} of "
            f"its value where a score is {-x[at]:.3g} below the row's maximum; scores and sums "
            "are right",
        )
    return None


def _clamped(x: Array, y: Array) -> tuple[str, str] | None:
    """exp(max(x, -c)): the line ends in a floor. x rises; y = log P less that of the row's top."""
    floor = y.min()
    low = y < floor + 10 * FITS
    if low.sum() < 3 or not low[: int(low.sum() * 0.9)].all() or x[low].max() - x[low].min() < 0.05:
        return None
    rest = ~low
    if rest.sum() < 3 or np.abs(y[rest] - x[rest]).max() > 0.02 * max(1.0, np.abs(x).max()):
        return None
    return (
        "exp_clamped",
        f"exp is clamped: scores further than {-floor:.4g} below the row's maximum all get the "
        f"weight exp({floor:.4g}), instead of less and less",
    )


def _softcap(s: Array, logp: Array, usable: NDArray[np.bool_]) -> float:
    """The cap c for which c tanh(s / c) explains log P but for a constant; 0 if none does."""
    largest = np.abs(s[usable]).max(initial=0)
    best, cap = np.inf, 0.0
    for c in np.geomspace(max(largest / 20, 0.05), largest * 20 + 1, 120):
        off = np.abs(_centred(c * np.tanh(s / c) - logp, usable)[usable]).max()
        if off < best:
            best, cap = off, float(c)
    for c in np.linspace(cap * 0.95, cap * 1.05, 201):
        off = np.abs(_centred(c * np.tanh(s / c) - logp, usable)[usable]).max()
        if off < best:
            best, cap = off, float(c)
    spread = np.abs(_centred(s - logp, usable)[usable]).max()
    return cap if best < max(2 * FITS, 0.02 * spread) else 0.0
