"""What of out does not come from the attention matrix: a shorter format, noise, old memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..judge import softmax
from .mask import ROUGH
from .probe import Array, Probe
from .where import where

LEAST = 50  # different values
DIVIDED = 2.0**-21  # relative: far less than a short format's steps
SHORT = 0.98  # of the values must have the format's bits


def read_format(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Are the values of out, or the weights, those of a shorter format?"""
    if probe.case.half:
        return
    p = probe.own
    kinds = (
        ("out has", probe.out()),
        ("the weights have", p),
        ("the weights, before they are divided by their sum, have", p / p.max(-1, keepdims=True)),
    )
    # With bfloat16 keys, weights may be rounded to it.
    for what, values in kinds[:1] if probe.case.half_kv else kinds:
        some = np.unique(values[np.abs(values) > 1e-4])
        for name, lost in (("bfloat16", 16), ("IEEE half", 13)):
            if len(some) > LEAST and _short(some, lost):
                yield (
                    "half_precision",
                    f"{what} the values of {name}: the lower {lost} bits of each float are 0",
                )
                return


def read_again(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Does the same call give the same values, behind calls with other numbers?"""
    first = probe.bench.ask(probe.case, *probe.drawn)
    probe.bench.ask(probe.case, *(-3 * t for t in probe.drawn))
    second = probe.bench.ask(probe.case, *probe.drawn)
    if first is None or second is None:
        return
    differs = ~((first == second) | (np.isnan(first) & np.isnan(second)))
    close = np.abs(first - second) <= 1e-4 * np.abs(probe.drawn[2]).max()
    differs &= ~close
    if differs.any():
        threads = probe.case.n_threads > 1
        also = ", or threads disturb each other" if threads else ""
        yield (
            "not_repeatable",
            "the same call gives other values behind other calls: memory is read that was "
            "never set "
            f"in this call{also} ({where(differs) or 'everywhere'})",
        )


def read_follows(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Does out come from V? Where V is 0 it must be 0."""
    zero = probe.out(v=np.zeros_like(probe.drawn[2]))
    size = np.abs(zero).max()
    if size <= ROUGH:
        return
    deaf = ~np.any(zero != probe.out(), axis=(2, 3))  # (batch, n_head)
    if deaf.any() and not deaf.all():
        b, h = np.argwhere(deaf)[0]
        yield (
            "v_address",
            f"out of head {h} (batch {b}) does not follow V at all ({int(deaf.sum())} of "
            f"{deaf.size} heads): what is taken for its V lies elsewhere, outside of the tensor",
        )
        return
    if not np.array_equal(zero, probe.out()):
        yield (
            "added_to_out",
            f"where V is 0, out is not: something of up to {size:.3g} is added that does not come "
            "from V: what was not cleared, or a constant "
            f"({where(np.abs(zero) > ROUGH) or 'everywhere'})",
        )
        return
    p = softmax(probe.scores, np.broadcast_to(probe.mask, probe.scores.shape))
    others = {"K": probe.drawn[1][:, probe.kv_head]}
    if probe.case.n_q == probe.case.n_kv:
        others["Q"] = probe.drawn[0]
    for name, tensor in others.items():
        if np.abs(p @ tensor.astype(np.float64) - zero).max() < ROUGH * np.abs(tensor).max():
            yield "v_is_another", f"out is P {name}, not P V: {name} stands in the place of V"
            return
    yield "v_ignored", "out does not follow V: the same comes out where V is 0"


def read_values(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Is out what the attention matrix makes of V?"""
    odd = np.ptp(probe.by_dim, axis=3).max() / np.abs(probe.by_dim).max()
    if len(probe.dims) < 0.5 * probe.case.head_dim and odd > ROUGH / 10:
        yield (
            "values_off",
            f"where V is the same in every dim, out is not: it differs by up to {odd:.1g} of its "
            "size from dim to dim, without a pattern. Values are disturbed, or rounded, on their "
            "way",
        )
        return
    p = probe.own
    v = probe.drawn[2][:, probe.kv_head].astype(np.float64)
    want = np.einsum("bhqk,bhkd->bhqd", p, v)
    off = np.abs(probe.out() - want)
    size = off.max() / np.abs(want).max()
    if size > 1e-5:
        wrong = off > 1e-5 * np.abs(want).max()
        pattern = where(wrong) or "without a pattern in their places"
        yield (
            "values_off",
            f"values of out are off by up to {size:.1g} of what the attention matrix makes of V, "
            f"{pattern}: they are disturbed, or rounded, on their way",
        )


def _short(values: Array, lost: int) -> bool:
    """Whether the last bits of nearly all are 0, but for what a division rounds."""
    bits = values.astype(np.float32).view(np.uint32) + np.uint32(1 << (lost - 1))
    nearest = (bits >> lost << lost).view(np.float32)
    return bool((np.abs(nearest - values) <= DIVIDED * np.abs(values)).mean() > SHORT)
