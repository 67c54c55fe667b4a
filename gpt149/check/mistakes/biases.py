"""Softcaps, slopes and sinks: what a kernel does to scores and sums, and does wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from .setup import (
    Array,
    Change,
    Combine,
    Mask,
    Mistake,
    Setup,
    biased,
    capped,
    exp_rows,
    scored,
    tile_sizes,
)

LOG2E = math.log2(math.e)
VECTORS = (4, 8, 16)  # keys at once


def softcaps(case: Case) -> Iterator[Mistake]:
    cap = case.softcap

    def shaped(cap_of: Callable[[Setup, Array], Array]) -> Change:
        """The product's way to a score, before slopes are added."""
        return lambda setup: replace(
            setup, score=lambda setup, dots: biased(setup, cap_of(setup, dots))
        )

    for cause, said, cap_of in (
        (
            "softcap_before_scale",
            "the softcap comes before the scale: softcap tanh(q k / softcap) is scaled",
            lambda s, dots: s.scale * cap * np.tanh(dots / cap),
        ),
        (
            "softcap_undivided",
            "scores are not divided by softcap inside of tanh: softcap tanh(s)",
            lambda s, dots: cap * np.tanh(s.scale * dots),
        ),
        (
            "softcap_not_multiplied",
            "tanh(s / softcap) is not multiplied by softcap",
            lambda s, dots: np.tanh(s.scale * dots / cap),
        ),
        (
            "softcap_inverse",
            "scores are multiplied by softcap where they should be divided, and the reverse",
            lambda s, dots: np.tanh(s.scale * dots * cap) / cap,
        ),
        (
            "softcap_hard",
            "scores are clamped at +-softcap, where they should be capped softly, by tanh",
            lambda s, dots: np.clip(s.scale * dots, -cap, cap),
        ),
        (
            "softcap_one_sided",
            "scores are cut off at +softcap alone, by min and not by tanh",
            lambda s, dots: np.minimum(s.scale * dots, cap),
        ),
        (
            "softcap_twice",
            "the softcap is applied twice",
            lambda s, dots: capped(s, capped(s, s.scale * dots)),
        ),
        (
            "softcap_scaled_twice",
            "the scale is applied before the softcap and once more behind it",
            lambda s, dots: s.scale * capped(s, s.scale * dots),
        ),
        (
            "softcap_by_another_curve",
            "the softcap is s / (1 + |s| / softcap), and not softcap tanh(s / softcap)",
            lambda s, dots: s.scale * dots / (1 + np.abs(s.scale * dots) / cap),
        ),
        (
            "softcap_by_another_curve",
            "the softcap's tanh is cut off behind its third power",
            lambda s, dots: s.scale * dots * (1 - (s.scale * dots / cap) ** 2 / 3),
        ),
    ):
        yield Mistake(cause, said, shaped(cap_of), "softcap")
    if case.alibi:
        yield Mistake(
            "softcap_behind_bias",
            "the softcap comes behind the bias: slopes are capped, too",
            lambda setup: replace(
                setup, score=lambda s, dots: capped(s, biased(s, s.scale * dots))
            ),
            "softcap",
        )

    def masked_first(setup: Setup) -> Setup:
        def combine(scores: Array, mask: Mask, v: Array) -> Array:
            return setup.combine(np.where(mask, scores, -cap), np.ones_like(mask), v)

        return replace(setup, combine=combine)

    yield Mistake(
        "softcap_behind_mask",
        "the softcap comes behind the mask: hidden keys get the score -softcap, and weight with it",
        masked_first,
        "softcap",
    )
    yield from _left_out(case, "softcap", lambda s: replace(s, softcap=0.0))


def slopes(case: Case) -> Iterator[Mistake]:
    def times(factor: Array | float) -> Change:
        def change(setup: Setup) -> Setup:
            assert setup.slopes is not None
            return replace(setup, slopes=setup.slopes * factor)

        return change

    def by_distance(distance: Callable[[Array], Array]) -> Change:
        def score(setup: Setup, dots: Array) -> Array:
            assert setup.slopes is not None
            bias = setup.slopes[:, None, None] * distance(setup.distance)
            return capped(setup, setup.scale * dots) + bias

        return lambda setup: replace(setup, score=score)

    h = np.arange(case.n_head)
    j = np.arange(case.n_kv)
    formula = 2.0 ** (-8.0 * (h + 1) / case.n_head)
    for cause, said, change in (
        (
            "slopes_sign",
            "the slopes have the wrong sign, or the distance is taken from the wrong end: it is "
            "slope (j - p), so that far keys score less",
            times(-1),
        ),
        (
            "slopes_own_formula",
            "the slopes are 2^(-8 (h + 1) / n_head), and not those of alibi_slopes",
            lambda setup: replace(setup, slopes=formula),
        ),
        ("slopes_scaled", "the slopes are multiplied by scale", times(case.scale_value)),
        ("slopes_scaled", "the slopes are divided by scale", times(1 / case.scale_value)),
        ("slopes_base", "the slopes are multiplied by log2(e) once too often", times(LOG2E)),
        (
            "slopes_base",
            "the slopes are not multiplied by log2(e), though the exponentials are of base 2",
            times(1 / LOG2E),
        ),
        ("slopes_twice", "the slopes are added twice", times(2)),
        (
            "slopes_exponent",
            "the slopes are taken for exponents: 2^-slope, and not slope",
            lambda setup: replace(setup, slopes=2.0**-setup.slopes),
        ),
        (
            "slopes_distance",
            "the distance is |j - p|, and should be j - p: keys behind the query's own are lowered",
            by_distance(lambda t: -np.abs(t)),
        ),
        (
            "slopes_distance",
            "keys behind the query's own get no bias",
            by_distance(lambda t: np.minimum(t, 0)),
        ),
    ):
        yield Mistake(cause, said, change, "slopes")
    if case.sinks:  # else it is the same for all that is in a row's sum
        own = np.arange(case.n_q, dtype=np.float64)[:, None] + case.n_kv - case.n_q
        ends: list[tuple[str, Array]] = [("key 0", own), ("query 0", own - own[0])]
        if case.kv_begin:
            begins = case.vectors()["kv_begin"].astype(np.float64)
            ends.append(("kv_begin", own - begins[:, None, None, None]))
        for end, by in ends:
            yield Mistake(
                "slopes_distance",
                f"the distance is taken from the wrong end: from {end}, not the query's own key",
                by_distance(lambda t, by=by: t + by),  # type: ignore[misc]
                "slopes",
            )
    for bc, implied in tile_sizes(case):
        yield Mistake(
            "slopes_distance",
            f"the distance is taken from the key's place in its tile of {bc}",
            by_distance(lambda t, bc=bc: j % bc + 0 * t),  # type: ignore[misc]
            "slopes",
            implied,
        )
    yield from _of_another_head(
        case, "slopes", "slope", lambda s, x: replace(s, slopes=x), lambda s: s.slopes  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    yield from _left_out(case, "slopes", lambda s: replace(s, slopes=None))


def sinks(case: Case) -> Iterator[Mistake]:
    scale = case.scale_value

    def changed(by: Callable[[Array], Array]) -> Change:
        return lambda setup: replace(setup, sinks=by(setup.sinks))  # type: ignore[arg-type]

    def summed(extra: Callable[[Array, Array], Array]) -> Change:
        """What is in the sum for a sink, from the sinks and the maxima of the keys alone."""

        def combine(scores: Array, mask: Mask, v: Array) -> Array:
            keys, sinks = scores[..., :-1], scores[..., -1:]
            m, p, l = exp_rows(keys, mask[:, :-1])
            out: Array = p @ v[..., :-1, :] / (l + extra(sinks, m))
            return out

        return lambda setup: replace(setup, combine=combine)

    def in_maximum_alone(scores: Array, mask: Mask, v: Array) -> Array:
        m = exp_rows(scores, mask)[0]
        p = np.exp(np.where(mask, scores, -np.inf) - m).astype(np.float32)[..., :-1]
        out: Array = p.astype(np.float64) @ v[..., :-1, :] / p.sum(-1, keepdims=True)
        return out

    yield Mistake(
        "sinks_in_maximum_alone",
        "the sink is in the row's maximum, and not in its sum",
        lambda setup: replace(setup, combine=in_maximum_alone),
        "sinks",
    )
    for cause, said, change in (
        ("sinks_scaled", "the sinks are multiplied by scale", changed(lambda t: t * scale)),
        ("sinks_scaled", "the sinks are divided by scale", changed(lambda t: t / scale)),
        (
            "sinks_base",
            "exp of the sink is of another base: the sink is multiplied by log2(e) once too often",
            changed(lambda t: t * LOG2E),
        ),
        (
            "sinks_base",
            "the sink is not multiplied by log2(e), though the exponentials are of base 2",
            changed(lambda t: t / LOG2E),
        ),
        ("sinks_sign", "the sinks have the wrong sign", changed(lambda t: -t)),
        (
            "sinks_zero",
            "every sink is taken to be 0: the sum gets exp(0 - m), whatever sinks holds",
            changed(lambda t: 0 * t),
        ),
        ("sinks_twice", "the sink is counted twice in the sum", changed(lambda t: t + math.log(2))),
        (
            "sinks_unshifted",
            "exp(sink) is added to the sum without subtracting the row's maximum",
            summed(lambda sinks, m: np.exp(sinks)),
        ),
        (
            "sinks_unshifted",
            "the sink itself is added to the sum, and not its exponential",
            summed(lambda sinks, m: sinks),
        ),
        (
            "sinks_zero",
            "1 is added to the sum for the sink, whatever sinks holds",
            summed(lambda sinks, m: 1 + 0 * sinks),
        ),
    ):  # fmt: skip
        yield Mistake(cause, said, change, "sinks")
    if case.softcap:
        yield Mistake(
            "sinks_capped",
            "the softcap is applied to the sinks, too",
            changed(lambda t: case.softcap * np.tanh(t / case.softcap)),
            "sinks",
        )
    for bc, implied in tile_sizes(case):
        n = -(-case.n_kv // bc)
        yield Mistake(
            "sinks_every_tile",
            f"the sink is counted once in every tile of {bc} keys, and not once a row",
            changed(lambda t, n=n: t + math.log(n)),  # type: ignore[misc]
            "sinks",
            implied,
        )
    yield Mistake(
        "sinks_have_value",
        "the sink is taken for a key in place of the first: its weight goes to V's first row",
        lambda setup: replace(setup, combine=_with_first_value(setup.combine)),
        "sinks",
    )
    yield from _of_another_head(
        case, "sinks", "sink", lambda s, x: replace(s, sinks=x), lambda s: s.sinks  # type: ignore[arg-type,return-value]
    )  # fmt: skip


def _with_first_value(combine: Combine) -> Combine:
    def combined(scores: Array, mask: Mask, v: Array) -> Array:
        valued = v.copy()
        valued[..., -1, :] = v[..., 0, :]
        return combine(scores, mask, valued)

    return combined


def _left_out(case: Case, cause: str, change: Change) -> Iterator[Mistake]:
    """A step from products to scores is left out for the keys of some tiles."""
    j = np.arange(case.n_kv)
    own = np.arange(case.n_q)[:, None] + case.n_kv - case.n_q

    def partly(rule: NDArray[np.bool_]) -> Change:
        return lambda setup: replace(
            setup, score=lambda s, dots: np.where(rule, scored(change(s), dots), scored(s, dots))
        )

    for bc, implied in tile_sizes(case):
        last = (case.n_kv - 1) // bc * bc
        for rule, which in (
            (j >= last, f"in the last tile of {bc} keys"),
            (j < last, f"in all tiles of {bc} keys but the last"),
            (j < bc, f"in the first tile of {bc} keys"),
            (j >= bc, f"in all tiles of {bc} keys but the first"),
            (own // bc == j // bc, f"in the tile of {bc} keys on the diagonal"),
            (own // bc != j // bc, f"in all tiles of {bc} keys but the one on the diagonal"),
        ):
            said = f"the {cause} is left out {which}"
            yield Mistake(f"{cause}_left_out", said, partly(np.asarray(rule)), cause, implied)
    for width in VECTORS:
        if case.n_kv % width:
            said = f"the {cause} is left out for the keys behind whole vectors of {width}"
            rule = j >= case.n_kv // width * width
            yield Mistake(f"{cause}_left_out", said, partly(rule), cause)


def _of_another_head(case: Case, cause: str, what: str, put: Callable[[Setup, Array], Setup],
                     get: Callable[[Setup], Array]) -> Iterator[Mistake]:  # fmt: skip
    h, group = np.arange(case.n_head), case.n_head // case.n_kv_head
    for order, how in (
        (h // group, "by the key head, h / (n_head / n_kv_head)"),
        (h % group, "by h % (n_head / n_kv_head)"),
        (h % case.n_kv_head, "by h % n_kv_head"),
        (h * 0, "of head 0 for every head"),
        (np.roll(h, 1), "of the head before"),
        (np.roll(h, -1), "of the next head"),
        (h[::-1], "in reverse order"),
    ):
        if not np.array_equal(order, h):
            yield Mistake(
                f"{cause}_of_another_head",
                f"the {what} of another head is taken: {how}",
                lambda setup, order=order: put(setup, get(setup)[order]),  # type: ignore[misc]
                cause,
            )
    beyond = f"the {what} of another head is taken: of head h + 1, for the last beyond their end"

    def next_one(setup: Setup) -> Setup:
        return put(setup, np.append(get(setup)[1:], np.nan))

    yield Mistake(f"{cause}_of_another_head", beyond, next_one, cause)
