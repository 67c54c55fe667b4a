"""Which element of memory is read for (token j, dim x)?

K, and the memory around it, is filled with numbers that rise with the address. A query with one dim
alone then makes scores that are addresses: log P along a row says by how many elements the keys
that it read lie apart. Random numbers in the same places say where they begin. What is fitted to
many elements is the formula. Values of V come out by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arena import AROUND, place, room
from ..cases import Case
from .probe import Array, Probe
from .words import NO_MATTER, ranges

SPREAD = 30.0  # of log P over all addresses: what floats hold apart, with room
SHARP = 1e-3  # what comes of a bit is so near to 0 or 1
ALL_OF_IT = 60.0  # a score above others at 0: they weigh e^-60
MOST_TOKENS = 6
MOST_DIMS = 8
MOST_KEYS = 1100
Addresses = NDArray[np.float64]  # of (token, dim), from the tensor's start; NaN: not legible


@dataclass(frozen=True)
class Formula:
    """address = token_stride * j + dim_stride * x + start, of a tensor of rows of head_dim."""

    token_stride: int
    dim_stride: int
    start: int

    @staticmethod
    def fitted(addresses: Addresses) -> Formula | None:
        """What explains every address that is legible; None if no plane does."""
        j, x = np.nonzero(np.isfinite(addresses))
        if len(j) < 3 or len(set(j)) < 2 or len(set(x)) < 2:
            return None
        a = np.stack([j, x, np.ones_like(j)], 1).astype(np.float64)
        found = np.rint(np.linalg.lstsq(a, addresses[j, x], rcond=None)[0])
        if np.abs(a @ found - addresses[j, x]).max() > 0.5:
            return None
        return Formula(*map(int, found))


def read_k(
    probe: Probe, _others: Sequence[Probe] = (), places: NDArray[np.intp] | None = None
) -> Iterator[tuple[str, str]]:
    """How K is addressed, in the first head, where that is not as it should be.

    places: where in the attention matrix, row by row, the last query's scores are found, if they
    are not in its row.
    """
    case = probe.case
    if not 4 <= case.n_kv <= MOST_KEYS or case.head_dim < 2 or case.half_kv:
        return
    if places is None:
        places = (case.n_q - 1) * case.n_kv + np.arange(case.n_kv)
    addresses = _k_addresses(probe, places)
    if addresses is None:
        return
    if said := describe(addresses, "K", case):
        yield "k_address", f"{said}. {NO_MATTER}"


def _k_addresses(probe: Probe, places: NDArray[np.intp]) -> Addresses | None:
    """Of head 0 of batch 0. From the steps between tokens, and then from where they begin."""
    case = probe.case
    row = case.n_q - 1  # sees all keys
    q = np.zeros_like(probe.drawn[0])
    span = case.n_kv * case.head_dim
    steep = SPREAD / (2 * span)
    rng = np.random.default_rng(149)
    n = room(place(case)["k"])
    ramp = np.arange(n, dtype=np.float64) * steep
    noise = rng.standard_normal(n).astype(np.float32)
    dims = np.unique(np.linspace(0, case.head_dim - 1, MOST_DIMS).astype(int))
    found = np.full((case.n_kv, case.head_dim), np.nan)
    for x in dims:
        q[:] = 0
        q[0, 0, row, x] = 1 / case.scale_value
        slope = _scores(probe, q, ramp.astype(np.float32), places)
        if slope is None:
            return None
        steps = (slope - slope[0]) / steep  # addresses from that of token 0
        if np.abs(steps).max() < 0.1:
            continue  # the dim does not count
        if np.abs(steps - np.rint(steps)).max() > 0.1:
            return None
        values = _scores(probe, q, noise, places)
        if values is None:
            return None
        start = _begin(np.rint(steps).astype(np.int64), values - values[0], noise)
        if start is None:
            return None
        found[:, x] = np.rint(steps) + start - AROUND
    return found


def _scores(
    probe: Probe, q: NDArray[np.float32], memory: NDArray[np.float32], places: NDArray[np.intp]
) -> Array | None:
    """Scores of head 0 but for a constant, where K and what lies around it are these numbers.

    Where they are spread over several rows, each row's constant is that of what else is in it.
    """
    case = probe.case
    rows = np.unique(places // case.n_kv)
    p = np.empty((len(rows), case.n_kv))
    for keys, v in probe.slices():
        out = probe.bench.ask(case, q, probe.drawn[1], v, memory={"k": memory})
        if out is None:
            return None
        p[:, keys] = out[0, 0][rows][:, probe.dims[: keys.stop - keys.start]]
    if not np.isfinite(p).all() or (p <= 0).any():
        return None
    scores: Array = np.log(p)
    if len(rows) > 1:
        scores -= np.array(
            [_rest(row, places - i * case.n_kv) for i, row in zip(rows, scores, strict=True)]
        )[:, None]
    found: Array = scores[np.searchsorted(rows, places // case.n_kv), places % case.n_kv]
    return found


def _rest(row: Array, places: NDArray[np.intp]) -> float:
    """The score in what is not at these places of a row, all of it the same number."""
    rest = np.delete(row, places[(places >= 0) & (places < len(row))])
    return float(np.median(rest)) if len(rest) else 0.0


def _begin(steps: NDArray[np.int64], values: Array, memory: NDArray[np.float32]) -> int | None:
    """The place in memory from which these steps give these values (less the first)."""
    low, high = -int(steps.min()), len(memory) - int(steps.max())
    if high <= low:
        return None
    begins = np.arange(low, high)
    some = np.unique(np.linspace(0, len(steps) - 1, 12).astype(int))
    m = memory.astype(np.float64)
    off = np.zeros(len(begins))
    for i in some:
        off = np.maximum(off, np.abs(m[begins + steps[i]] - m[begins] - values[i]))
    best = int(off.argmin())
    return int(begins[best]) if off[best] < 1e-3 else None


def describe(addresses: Addresses, name: str, case: Case) -> str:
    """What these addresses of (token, dim) say; empty if they are the right ones.

    name: of the tensor, K or V, in the memory of the case.
    """
    head_dim, n, placed = case.head_dim, case.n_kv, place(case)
    row = placed[name.lower()].strides[2]
    j, x = np.indices(addresses.shape)
    right = j * row + x
    legible = np.isfinite(addresses)
    if not legible.any() or (addresses[legible] == right[legible]).all():
        return ""
    strides = {t.strides[2]: f"{key}'s stride" for key, t in placed.items()}
    strides = {stride: said[0].upper() + said[1:] for stride, said in strides.items()}
    names = strides | {row: "its stride", head_dim: "head_dim", n: "n_kv"}
    formula = Formula.fitted(addresses)
    beyond = (addresses < 0) | (addresses > (n - 1) * row + head_dim - 1)
    outside = (
        f"; {int(beyond[legible].sum())} of these elements lie outside of the tensor"
        if beyond[legible].any()
        else ""
    )
    if formula is not None:
        said = _formula(formula, names)
        exchanged = (
            ": the indices are exchanged, the row stride is not"
            if formula.token_stride == 1 and formula.dim_stride == row
            else ": as if it lay in memory as (head_dim, tokens)"
            if formula.token_stride == 1 and formula.dim_stride == n
            else f": its row stride is {row}"
            if formula.dim_stride == 1 and formula.token_stride != row
            else ""
        )
        return f"{name} is read at {said} for (token j, dim x){exchanged}{outside}"
    wrong = legible & (addresses != right)
    shift = (addresses - j * row - x) % head_dim
    if len(np.unique(shift[legible])) == 1 and (addresses // row == j)[legible].all():
        by = int(shift[legible][0])
        return f"{name} is read with its dims rotated: dim (x + {by}) % head_dim for dim x{outside}"
    for b in (2, 4, 8, 16, 32, 64, 128, 256, 512):
        if (addresses[legible] == (j * row + x // b * b)[legible]).all():
            return f"{name} is read with the dim rounded down to a multiple of {b}{outside}"
        if (addresses[legible] == (j // b * b * row + x)[legible]).all():
            return f"{name} is read with the token rounded down to a multiple of {b}{outside}"
        if (addresses[legible] == (j % b * row + x)[legible]).all():
            return f"{name} is read at token j % {b} for token j{outside}"
    for bits in (8, 16):
        size, half = 2**bits, 2 ** (bits - 1)
        wrapped = (right % size, j * row % size + x, (right + half) % size - half)
        if any((addresses[legible] == w[legible]).all() for w in wrapped):
            return f"{name} is read at offsets that wrap at {size:,}: they are kept in {bits} bits"
    tokens, dims = np.flatnonzero(wrong.any(1)), np.flatnonzero(wrong.any(0))
    at = np.argwhere(wrong)[0]
    return (
        f"{name} is read from other places than it should be for tokens {ranges(tokens)}, dims "
        f"{ranges(dims)}: (token {at[0]}, dim {at[1]}) comes from element "
        f"{addresses[tuple(at)]:.0f} of the head, not {right[tuple(at)]}{outside}"
    )


def _formula(f: Formula, names: dict[int, str]) -> str:
    def term(stride: int, index: str) -> str:
        if stride == 1:
            return index
        return f"{index}*{names.get(stride, str(stride))}"

    terms = [term(f.token_stride, "j") if f.token_stride else "", term(f.dim_stride, "x")]
    if f.token_stride == 1:
        terms.reverse()
    text = " + ".join(t for t in terms if t)
    return text + (f" + {f.start}" if f.start > 0 else f" - {-f.start}" if f.start < 0 else "")


def read_v(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """How V is addressed, in the last head: a key that has all the weight gives its values.

    The memory holds a bit of each element's address at a time.
    """
    case, placed = probe.case, place(probe.case)["v"]
    if not 2 <= case.n_kv <= MOST_KEYS or case.head_dim < 2 or case.half_kv:
        return
    n, h = room(placed), case.n_head - 1
    begin = AROUND + int(probe.kv_head[h]) * placed.strides[1]
    tokens = np.unique(np.linspace(0, case.n_kv - 1, MOST_TOKENS).astype(int))
    found = np.full((case.n_kv, case.head_dim), np.nan)
    for j in tokens:
        q, k = np.zeros_like(probe.drawn[0]), np.zeros_like(probe.drawn[1])
        q[..., 0] = 1
        k[:, :, j, 0] = ALL_OF_IT / case.scale_value
        address = np.zeros(case.head_dim)
        ones = probe.bench.ask(case, q, k, probe.drawn[2], memory={"v": np.ones(n, np.float32)})
        if ones is None:
            return
        # One element comes into it, whole: else its address cannot be told.
        alone = np.abs(ones[0, h, case.n_q - 1] - 1.0) < SHARP
        for bit in range(int(n).bit_length()):
            memory = (np.arange(n) >> bit & 1).astype(np.float32)
            out = probe.bench.ask(case, q, k, probe.drawn[2], memory={"v": memory})
            if out is None:
                return
            value = out[0, h, case.n_q - 1].astype(np.float64)
            alone &= np.minimum(np.abs(value), np.abs(value - 1)) < SHARP
            address += np.rint(value) * 2.0**bit
        found[j, alone] = (address - begin)[alone]
    formula = Formula.fitted(found)
    if formula is not None and formula.token_stride == 0:
        return  # one key alone may be all that is seen
    if said := describe(found, "V", case):
        yield "v_address", f"{said}{f' (head {h})' if h else ''}. {NO_MATTER}"
