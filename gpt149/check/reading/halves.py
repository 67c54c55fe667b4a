"""Are keys and values in bfloat16 read as if they were something else?

The bits that lie in memory, taken for float32 or for IEEE half, predict what then comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..arena import place
from ..judge import softmax
from .probe import Array, Probe

NEAR = 1e-3  # of the values; a wrong type is off by as much as they are large
LEAST = 8  # finite values that a prediction must have


def read_kv_dtype(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """What K and V are taken for, where they are bfloat16."""
    if not probe.case.half_kv:
        return
    out = probe.bench.ask(probe.case, *probe.drawn)
    if out is None:
        return
    k, v = (t.astype(np.float64) for t in probe.drawn[1:])
    for name, taken in (("float32", _as_float32(probe)), ("IEEE half", _as_half(probe))):
        for both, kv in (
            ("keys and values", taken),
            ("keys", (taken[0], v)),
            ("values", (k, taken[1])),
        ):
            if _explains(probe, out, *kv):
                yield (
                    "kv_dtype_ignored",
                    f"{both} in bfloat16 are read as if they were {name}: look at kv_dtype, or "
                    "do not claim GPT149_KV_BFLOAT16",
                )
                return


def _as_float32(probe: Probe) -> tuple[Array, Array]:
    """What lies where float32 would, with the same strides in elements."""
    placed = place(probe.case)
    k, v = (placed[name].view(probe.memory).astype(np.float64) for name in ("k", "v"))
    return k, v


def _as_half(probe: Probe) -> tuple[Array, Array]:
    k, v = (
        (t.view(np.uint32) >> 16).astype(np.uint16).view(np.float16).astype(np.float64)
        for t in probe.drawn[1:]
    )
    return k, v


def _explains(probe: Probe, out: NDArray[np.float32], k: Array, v: Array) -> bool:
    q, k, v = probe.drawn[0].astype(np.float64), k[:, probe.kv_head], v[:, probe.kv_head]
    scores = probe.case.scale_value * (q @ k.swapaxes(-1, -2))
    # NaN that a mask hides is not read.
    scores = np.where(probe.mask, scores, 0)
    p = softmax(scores, np.broadcast_to(probe.mask, scores.shape))
    seen = np.where(np.isfinite(v), v, 0)
    predicted = np.einsum("bhqk,bhkd->bhqd", p, seen)
    hit = np.einsum("qk,bhkd->bhqd", probe.mask, (~np.isfinite(v)).astype(float)) > 0
    predicted[hit] = np.nan
    finite = np.isfinite(predicted)
    if finite.sum() < LEAST:
        return False
    off = np.abs(predicted - out)[finite]
    return bool((off <= NEAR * np.maximum(1, np.abs(predicted[finite]))).all())
