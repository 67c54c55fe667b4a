"""Are rows read as another type, or found as if they were of one?

The bits that lie in memory, taken for float32, bfloat16 or IEEE half, at addresses that count
elements of 2 or of 4 bytes, predict what then comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..arena import Placed, place
from ..judge import softmax
from .probe import Array, Probe

NEAR = 1e-3  # of the values; a wrong type is off by as much as they are large
NEAR_HALF = 2e-2  # the same where weights may be rounded to bfloat16
LEAST = 8  # finite values that a prediction must have
MOST_WORK = 10_000_000
HEADS = 4  # that are predicted
UPPER = np.uint32(0xFFFF0000)  # the bits of a float32 that bfloat16 has
BYTES = {"float32": 4, "bfloat16": 2, "IEEE half": 2}
TENSORS = {"keys and values": "kv", "keys": "k", "values": "v", "queries": "q"}
Tensors = dict[str, Array]


def read_types(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """What q, k or v are taken for.

    Numbers are such that bfloat16 has them: the other half of a float32 is 0, and no NaN.
    """
    if probe.case.work > MOST_WORK or probe.case.layout == "far":
        return
    drawn = [(t.view(np.uint32) & UPPER).view(np.float32) for t in probe.drawn]
    out = probe.bench.ask(probe.case, *drawn)
    if out is None:
        return
    right: Tensors = {n: t.astype(np.float64) for n, t in zip("qkv", drawn, strict=True)}
    if _explains(probe, out, right):
        return
    placed, memory = _memory(probe, drawn)
    for words, names in TENSORS.items():
        own = "bfloat16" if placed[names[0]].half else "float32"
        for taken, size in BYTES.items():
            for unit in (2, 4):
                if (taken, unit) == (own, BYTES[own]):
                    continue
                read = {name: _read(memory, placed[name], unit, taken, size) for name in names}
                if _explains(probe, out, right | read):
                    yield _said(words, names, own, taken, unit)
                    return


def _said(words: str, names: str, own: str, taken: str, unit: int) -> tuple[str, str]:
    field = "dtype" if names == "q" else "kv_dtype"
    if taken == own:
        many = "twice as far" if unit > BYTES[own] else "half as far"
        return (
            f"{field}_wrong",
            f"rows of {words} in {own} are found {many} as they lie: their offsets are counted in "
            f"elements of {unit} bytes, and they have {BYTES[own]}",
        )
    where = "" if unit == BYTES[taken] else f", though each row is found as {own}"
    hint = f"look at {field}"
    if own == "bfloat16":
        claim = "GPT149_Q_BFLOAT16" if names == "q" else "GPT149_KV_BFLOAT16"
        hint += f", or do not claim {claim}"
    cause = f"{field}_ignored" if own == "bfloat16" and not where else f"{field}_wrong"
    return cause, f"{words} in {own} are read as if they were {taken}{where}: {hint}"


def _memory(
    probe: Probe, drawn: Sequence[NDArray[np.float32]]
) -> tuple[dict[str, Placed], NDArray[np.uint16]]:
    """Where the tensors lie, and the memory: zeros but for them."""
    placed = place(probe.case)
    memory = np.zeros_like(probe.memory)
    for name, tensor in zip("qkv", drawn, strict=True):
        placed[name].put(tensor, memory)
    return placed, memory.view(np.uint16)


def _read(memory: NDArray[np.uint16], placed: Placed, unit: int, taken: str, size: int) -> Array:
    """Elements of this type, in rows whose offsets count elements of so many bytes."""
    indices = np.ix_(*map(np.arange, placed.shape[:3]))
    rows = sum(n * stride for n, stride in zip(indices, placed.strides, strict=True))
    at = 2 * placed.start + np.asarray(rows)[..., None] * (unit // 2)
    at = at + np.arange(placed.shape[3]) * (size // 2)

    def word(at: NDArray[np.int64]) -> NDArray[np.uint32]:
        inside = at < len(memory)
        return np.where(inside, memory[np.where(inside, at, 0)], 0).astype(np.uint32)

    with np.errstate(all="ignore"):
        if taken == "float32":
            return (word(at) | word(at + 1) << 16).view(np.float32).astype(np.float64)
        if taken == "bfloat16":
            return (word(at) << 16).view(np.float32).astype(np.float64)
        return word(at).astype(np.uint16).view(np.float16).astype(np.float64)


def _explains(probe: Probe, out: NDArray[np.float32], tensors: Tensors) -> bool:
    heads = probe.kv_head[:HEADS]
    q, k, v = tensors["q"][:1, :HEADS], tensors["k"][:1, heads], tensors["v"][:1, heads]
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
    off = np.abs(predicted - out[:1, :HEADS])[finite]
    near = NEAR_HALF if probe.case.half_kv else NEAR
    return bool((off <= near * np.maximum(1, np.abs(predicted[finite]))).all())
