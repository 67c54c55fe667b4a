"""What a kernel may take for the log-sum-exp of a row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..cases import Case
from .setup import Array, Setup, exp_rows, with_sinks
from .variants import IGNORED

LOG2E = math.log2(math.e)
Lse = tuple[str, str, Array]  # a cause, a sentence, what it gives: (batch, n_head, n_q)


def _parts(setup: Setup) -> tuple[Array, Array]:
    """Maxima and sums of rows, each (batch, n_head, n_q)."""
    scores, masks = setup.scores(), setup.masks
    if setup.sinks is not None:
        scores, _, masks = with_sinks(setup.sinks, scores, setup.v[:, setup.kv_head], masks)
    m, _, l = exp_rows(scores, masks[:, None])
    return m[..., 0], l[..., 0]


def lse_of(setup: Setup) -> Array:
    """The right one, of a setup."""
    m, l = _parts(setup)
    return np.where(np.isfinite(m), m + np.log(l), -np.inf)


def lses(case: Case, setup: Setup) -> Iterator[Lse]:
    """Every mistake that could show, and what it gives."""
    with np.errstate(all="ignore"):
        m, l = _parts(setup)
        lse = lse_of(setup)
        yield "lse_without_max", "lse is the log of the sum without the maximum m", np.log(l)
        yield "lse_without_max", "lse leaves the log of the sum out: it is the maximum m", m
        yield "lse_no_log", "lse holds the sum l itself, and not m + log(l)", l
        yield "lse_no_log", "lse is m + l, without the logarithm", m + l
        yield "lse_no_log", "lse is the sum of exponentials, and not its logarithm", np.exp(lse)
        yield "lse_sign", "lse has the wrong sign", -lse
        yield "lse_sign", "lse is m - log(l), and should be m + log(l)", m - np.log(l)
        base = "lse is in base 2, and should be natural"
        yield "lse_base_2", base, lse * LOG2E
        yield "lse_base_2", f"{base}: m is, and log(l) is not", m * LOG2E + np.log(l)
        yield "lse_base_2", f"{base}: log2(l) is added to m", m + np.log2(l)
        yield "lse_base_2", f"{base}: ln(2) is multiplied once too often", lse / LOG2E
        yield "lse_base_10", "lse is in base 10, and should be natural", lse / math.log(10)
        yield (
            "lse_unscaled",
            "lse is that of the scores before they are multiplied by scale",
            lse_of(replace(setup, scale=1.0)),
        )
        yield "lse_unscaled", "the maximum in lse is unscaled", m / setup.scale + np.log(l)
        yield "lse_scaled", "lse is multiplied by scale", lse * setup.scale
        yield "lse_scaled", "the maximum in lse is scaled twice", m * setup.scale + np.log(l)
        for name, (cause, words, change) in IGNORED.items():
            if getattr(case, name):
                said = f"lse is computed before {words} comes in: out has it, and lse has not"
                yield f"lse_before_{cause}", said, lse_of(change(setup))
        if case.sinks:
            m_keys, _ = _parts(replace(setup, sinks=None))
            keys = lse_of(replace(setup, sinks=None))
            assert setup.sinks is not None
            sink = setup.sinks[:, None] + 0 * m
            said = "lse is computed before the sink comes in: "
            yield "lse_before_sinks", f"{said}with the keys' maximum", m_keys + np.log(l)
            yield (
                "lse_before_sinks",
                f"{said}with the keys' sum",
                np.where(np.isfinite(keys), m + np.log(np.exp(keys - m_keys)), sink),
            )
        if setup.slopes is not None:
            own = np.arange(case.n_q) + case.n_kv - case.n_q
            for at, where in ((own, "0"), (np.arange(case.n_q), "the first query")):
                yield (
                    "lse_slopes_distance",
                    "lse has the distances of ALiBi counted from another end: slope j, from key "
                    f"{where}, and not slope (j - p). In out that is the same",
                    lse + setup.slopes[:, None] * at,
                )
        unmasked = replace(setup, mask=np.ones_like(setup.mask), window=0, begins=None)
        yield "lse_of_hidden_keys", "the sum in lse has the hidden keys, too", lse_of(unmasked)
        for by, what in ((1, "before"), (-1, "behind")):
            yield "lse_shifted", f"lse is that of the head {what}", np.roll(lse, by, 1)
            yield "lse_shifted", f"lse is that of the query {what}", np.roll(lse, by, 2)
        if case.batch > 1:
            yield "lse_shifted", "lse is that of batch 0 for every batch", lse[:1] + 0 * lse
        hidden = np.isneginf(lse)
        if hidden.any():
            largest = float(np.finfo(np.float32).max)
            for value in (np.nan, 0.0, np.inf, -largest, -1e9, -1e30, -1e38, -10000.0):
                yield (
                    "lse_of_hidden_rows",
                    "lse must be -infinity where every key is hidden from a query and there is no "
                    f"sink: it is {value:g}",
                    np.where(hidden, np.float64(np.float32(value)), lse),
                )
