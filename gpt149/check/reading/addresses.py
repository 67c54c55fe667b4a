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

from ..arena import AROUND, Placed, place, room
from ..cases import Case
from .probe import Array, Illegible, Place, Probe
from .rules import sizes
from .words import NO_MATTER, ranges

SPREAD = 30.0  # of log P over all addresses: what floats hold apart, with room
SHARP = 1e-3  # what comes of a bit is so near to 0 or 1
ALL_OF_IT = 60.0  # a score above others at 0: they weigh e^-60
MOST_TOKENS = 6
MOST_DIMS, FEW_DIMS = 8, 4
MANY_KEYS = 256  # for which each number costs many calls
MOST_KEYS = 1100
MOST_BEGINS = 12  # elements that a place is looked for with
SAME_VALUE = 1e-3
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
    heads = {(0, 0)}
    if places is None and case.n_kv <= MANY_KEYS:
        heads.add((case.batch - 1, case.n_head - 1))
    if places is None:
        places = (case.n_q - 1) * case.n_kv + np.arange(case.n_kv)
    for head in sorted(heads):
        addresses = _k_addresses(probe, places, head)
        if addresses is None:
            return
        if said := describe(addresses, "K", case, (head[0], int(probe.kv_head[head[1]]))):
            yield "k_address", f"{said}{_of(head)}. {NO_MATTER}"
            return


def _of(head: Place) -> str:
    b, h = head
    return "" if head == (0, 0) else f" (batch {b}, head {h})" if b else f" (head {h})"


def _k_addresses(probe: Probe, places: NDArray[np.intp], head: Place) -> Addresses | None:
    """Of a (batch, head). From the steps between tokens, and then from where they begin."""
    case = probe.case
    row = case.n_q - 1  # sees all keys
    at = _start(place(case)["k"], (head[0], int(probe.kv_head[head[1]])))
    q = np.zeros_like(probe.drawn[0])
    span = case.n_kv * case.head_dim
    steep = SPREAD / (2 * span)
    rng = np.random.default_rng(149)
    n = room(place(case)["k"])
    ramp = np.arange(n, dtype=np.float64) * steep
    noise = rng.standard_normal(n).astype(np.float32)
    n_dims = MOST_DIMS if case.n_kv <= MANY_KEYS else FEW_DIMS
    dims = np.unique(np.linspace(0, case.head_dim - 1, n_dims).astype(int))
    found = np.full((case.n_kv, case.head_dim), np.nan)
    for x in dims:
        q[:] = 0
        q[head][row, x] = 1 / case.scale_value
        slope = _scores(probe, q, ramp.astype(np.float32), places, head)
        if slope is None:
            return None
        steps = (slope - slope[0]) / steep  # addresses from that of token 0
        if np.abs(steps).max() < 0.1:
            continue  # the dim does not count
        near = np.abs(steps - np.rint(steps)) < 0.1  # and no NaN
        if not near.all() and near.sum() < MOST_TOKENS:
            return None
        values = _scores(probe, q, noise, places, head)
        if values is None:
            return None
        whole = np.where(near, np.rint(steps), 0).astype(np.int64)
        fitting = _begin(whole, values - values[0], noise, near)
        if fitting is None:
            return None
        start, near = fitting
        found[near, x] = whole[near] + start - AROUND - at
    return found if _told(found) else None


def _told(found: Addresses) -> bool:
    """Whether all that was asked is known, or what is not lies beyond all that is, by a formula.

    That is where memory is not ours to fill.
    """
    asked = np.isfinite(found).any(0)
    if np.isfinite(found[:, asked]).all():
        return True
    formula = Formula.fitted(found)
    if formula is None:
        return False
    j, x = np.nonzero(~np.isfinite(found) & asked)
    unknown = formula.token_stride * j + formula.dim_stride * x + formula.start
    return bool(((unknown > np.nanmax(found)) | (unknown < np.nanmin(found))).all())


def _start(placed: Placed, head: Place) -> int:
    """Where a (batch, key head) begins, in elements from where the tensor does."""
    return head[0] * placed.strides[0] + head[1] * placed.strides[1]


def _scores(
    probe: Probe,
    q: NDArray[np.float32],
    memory: NDArray[np.float32],
    places: NDArray[np.intp],
    head: Place,
) -> Array | None:
    """Scores of a head but for a constant, where K and what lies around it are these numbers.

    Where they are spread over several rows, each row's constant is that of what else is in it.
    """
    case = probe.case
    rows = np.unique(places // case.n_kv)
    p = np.empty((len(rows), case.n_kv))
    for keys, v in probe.slices():
        out = probe.bench.ask(case, q, probe.drawn[1], v, memory={"k": memory})
        if out is None:
            return None
        p[:, keys] = out[head][rows][:, probe.dims[: keys.stop - keys.start]]
    if not np.isfinite(p).all() or (p > 0).sum() < MOST_TOKENS:
        return None
    scores: Array = np.log(np.where(p > 0, p, np.nan))
    if len(rows) > 1:
        scores -= np.array(
            [_rest(row, places - i * case.n_kv) for i, row in zip(rows, scores, strict=True)]
        )[:, None]
    found: Array = scores[np.searchsorted(rows, places // case.n_kv), places % case.n_kv]
    return found


def _rest(row: Array, places: NDArray[np.intp]) -> float:
    """The score in what is not at these places of a row, all of it the same number."""
    rest = np.delete(row, places[(places >= 0) & (places < len(row))])
    return float(np.nanmedian(rest)) if len(rest) else 0.0


def _begin(
    steps: NDArray[np.int64],
    values: Array,
    memory: NDArray[np.float32],
    near: NDArray[np.bool_],
) -> tuple[int, NDArray[np.bool_]] | None:
    """The place in memory from which these steps give these values (less the first), for most of
    those that are `near`; and for which. The others are of memory that holds something else.
    """
    known = np.flatnonzero(near)
    known = known[np.abs(steps[known]) < len(memory)]
    if len(known) < MOST_TOKENS:
        return None
    some = known[np.unique(np.linspace(0, len(known) - 1, MOST_BEGINS).astype(int))]
    m = memory.astype(np.float64)
    begins = np.arange(len(memory))
    right = np.zeros(len(begins), np.int64)
    for i in some:
        at = begins + steps[i]
        inside = (at >= 0) & (at < len(m))
        off = np.abs(m[np.clip(at, 0, len(m) - 1)] - m[begins] - values[i])
        right += inside & (off < SAME_VALUE)
    best = int(right.argmax())
    if right[best] < max(3, 0.3 * len(some)):
        return None
    at = best + steps
    inside = near & (at >= 0) & (at < len(m))
    off = np.abs(m[np.clip(at, 0, len(m) - 1)] - m[best] - values)
    return best, inside & (off < SAME_VALUE)


def describe(addresses: Addresses, name: str, case: Case, head: Place = (0, 0)) -> str:
    """What these addresses of (token, dim) say; empty if they are the right ones.

    name: of the tensor, K or V, in the memory of the case. head: batch and key head that they
    should be of, and whose first element they are counted from.
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
    outside = _outside(addresses[legible], placed[name.lower()], head)
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
    for b in sizes(n):
        if (addresses[legible] == (j % b * row + x)[legible]).all():
            return f"{name} is read at token j % {b} for token j{outside}"
    for bits in (8, 16):
        size, half = 2**bits, 2 ** (bits - 1)
        wrapped = (right % size, j * row % size + x, (right + half) % size - half)
        if any((addresses[legible] == w[legible]).all() for w in wrapped):
            return f"{name} is read at offsets that wrap at {size:,}: they are kept in {bits} bits"
    tokens, dims = np.flatnonzero(wrong.any(1)), np.flatnonzero(wrong.any(0))
    some = f", dims {ranges(dims)}" if len(dims) < legible.any(0).sum() else ""
    at = np.argwhere(wrong)[0]
    return (
        f"{name} is read from other places than it should be for tokens {ranges(tokens)}{some}: "
        f"(token {at[0]}, dim {at[1]}) comes from element {addresses[tuple(at)]:.0f} of the head, "
        f"not {right[tuple(at)]}{outside}"
    )


def _outside(addresses: Addresses, placed: Placed, head: Place) -> str:
    """How many of a head's elements are none of its own, in words."""
    begin, n, d = _start(placed, head), placed.shape[2], placed.shape[3]
    beyond = (addresses < -begin) | (addresses >= placed.span - begin)
    others = ((addresses < 0) | (addresses > (n - 1) * placed.strides[2] + d - 1)) & ~beyond
    said = ""
    if others.any():
        said += f"; {int(others.sum())} of these elements are another head's"
    if beyond.any():
        said += f"; {int(beyond.sum())} of these elements lie outside of the tensor"
    return said


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
    head = (0, int(probe.kv_head[h]))
    begin = AROUND + _start(placed, head)
    tokens = np.unique(np.linspace(0, case.n_kv - 1, MOST_TOKENS).astype(int))
    found = np.full((case.n_kv, case.head_dim), np.nan)
    queries = [case.n_q - 1, max(0, case.n_q - 2)]
    for j in tokens:
        q, k = np.zeros_like(probe.drawn[0]), np.zeros_like(probe.drawn[1])
        q[..., 0] = 1
        k[:, :, j, 0] = ALL_OF_IT / case.scale_value
        address = np.zeros((2, case.head_dim))
        ones = probe.bench.ask(case, q, k, probe.drawn[2], memory={"v": np.ones(n, np.float32)})
        if ones is None:
            return
        # One element comes into it, whole: else its address cannot be told.
        alone = np.abs(ones[0, h, queries] - 1.0) < SHARP
        for bit in range(int(n).bit_length()):
            memory = (np.arange(n) >> bit & 1).astype(np.float32)
            out = probe.bench.ask(case, q, k, probe.drawn[2], memory={"v": memory})
            if out is None:
                return
            value = out[0, h, queries].astype(np.float64)
            alone &= np.minimum(np.abs(value), np.abs(value - 1)) < SHARP
            address += np.rint(value) * 2.0**bit
        sees = probe.mask[queries, j]
        if sees.all() and (alone.all(0) & (address[0] != address[1])).any():
            return  # V's place is the same for all queries: it is weights that differ
        found[j, alone[0]] = (address[0] - begin)[alone[0]]
    if np.isfinite(found[tokens]).mean() < 0.5:
        return  # several elements come into most values: V is not all that is wrong
    formula = Formula.fitted(found)
    if formula is not None and formula.token_stride == 0:
        return  # one key alone may be all that is seen
    if formula is None and not probe.mask[:, tokens[-1]].sum() > 1:
        found[tokens[-1]] = np.nan  # one query alone sees it: its weights may be what is odd
    if _other_tokens(found, placed) and _flat_is_right(probe, h):
        return  # it is the weights that are other tokens': K is read elsewhere
    if said := describe(found, "V", case, head):
        yield "v_address", f"{said}{_of((0, h))}. {NO_MATTER}"


def _other_tokens(found: Addresses, placed: Placed) -> bool:
    """Whether all dims are the right ones, of whichever tokens."""
    _, x = np.indices(found.shape)
    off = (found - x) % placed.strides[2]
    return not off[np.isfinite(found)].any()


def _flat_is_right(probe: Probe, h: int) -> bool:
    """Whether, with all scores 0, a head's last query has its own tokens' values, each once."""
    seen = probe.mask[-1] / probe.mask[-1].sum()
    try:
        return bool(np.abs(probe.flat[0, h, -1] - seen).max() < SHARP * seen.max())
    except Illegible:
        return False
