"""The memory of a call: tensors in the case's layout, between guards, shared with the child.

Everything that is not input is filled with NaN, of one pattern in and around out and another around
the inputs. So what was never written, what was written outside, what was changed though it is
input, and what was computed from memory that is no input can all be told after the call.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .cases import Case

FLOAT_BYTES = 4
# Quiet NaNs, of float32 and of bfloat16: arithmetic produces others, and passes these on.
POISON = np.uint32(0x7FD57FD5)
AROUND_INPUTS = np.uint32(0x7FE67FE6)
GUARD = 1024  # elements before and behind each tensor
AROUND = GUARD // 2  # of them, nobody else's
MARGIN = 16384  # and before and behind all of them
PAGE = mmap.PAGESIZE // FLOAT_BYTES
FAR = 2**30 + 8  # elements between heads; batches lie further apart than 2^31
TENSORS = ("q", "k", "v", "out")
VECTORS = ("alibi_slopes", "sinks", "kv_begin")
OUTPUTS = ("out", "lse")
NAMES = ("q", "k", "v", *VECTORS, *OUTPUTS)  # in this order, what a case has of them


@dataclass(frozen=True)
class Placed:
    """A tensor in the arena: where it starts, in floats, its shape, and its strides in elements.

    half: its elements are bfloat16.
    """

    start: int
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int]
    half: bool = False

    @property
    def span(self) -> int:
        """Floats from its first to its last element."""
        last = sum((n - 1) * s for n, s in zip(self.shape, (*self.strides, 1), strict=True))
        return 1 + last // 2 if self.half else 1 + last

    def view(self, memory: NDArray[np.float32]) -> NDArray[np.float32]:
        """A float32 tensor in the arena's memory: (batch, heads, n, head_dim)."""
        strides = tuple(4 * s for s in (*self.strides, 1))
        return np.lib.stride_tricks.as_strided(memory[self.start :], self.shape, strides)

    def bits(self, memory: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
        """The same as bits, uint32, or uint16 where its elements are bfloat16."""
        width = 2 if self.half else 4
        numbers = memory[self.start :].view(np.uint16 if self.half else np.uint32)
        strides = tuple(width * s for s in (*self.strides, 1))
        return np.lib.stride_tricks.as_strided(numbers, self.shape, strides)

    def put(self, tensor: NDArray[Any], memory: NDArray[np.float32]) -> None:
        """Write the tensor, of 4 bytes an element, into the arena's memory."""
        self.bits(memory)[...] = tensor.view(np.uint32) >> (16 if self.half else 0)

    def get(self, memory: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy as float32."""
        if not self.half:
            return np.array(self.view(memory))
        wide = np.ascontiguousarray(self.bits(memory).astype(np.uint32) << np.uint32(16))
        floats: NDArray[np.float32] = wide.view(np.float32)
        floats[np.isnan(floats)] = np.nan  # a quiet one
        return floats


def place(case: Case) -> dict[str, Placed]:
    """Where each tensor of the case lies: inputs, and behind them, on pages of their own, outputs.

    Vectors are (1, 1, 1, n), lse (batch, n_head, n_q, 1). At an edge each ends where a page does,
    and the next page is nobody's: see `calls.fence`.
    """
    placed: dict[str, Placed] = {}
    start = MARGIN
    for name, shape in shapes(case).items():
        if name == "out":
            start = -(-start // PAGE) * PAGE + GUARD
        half = (case.half_kv and name in ("k", "v")) or (case.half and name in ("q", "out"))
        odd = 0 if case.aligned else 1
        one = Placed(start + odd, shape, _strides(case.layout, name, shape), half)
        if case.layout == "edge":
            end = -(-(start + one.span) // PAGE) * PAGE
            placed[name] = replace(one, start=end - one.span)
            start = end + PAGE + GUARD
            continue
        placed[name] = one
        start += -(-(one.span + odd + GUARD) // 16) * 16  # 64-byte aligned, as an allocator's
    return placed


def shapes(case: Case) -> dict[str, tuple[int, int, int, int]]:
    """Of the tensors that the case has, in their order in the arena."""
    q = (case.batch, case.n_head, case.n_q)
    k = (case.batch, case.n_kv_head, case.n_kv)
    inputs = {"q": (*q, case.head_dim), "k": (*k, case.head_dim), "v": (*k, case.width)}
    vectors = {name: (1, 1, 1, len(vector)) for name, vector in case.vectors().items()}
    lse = {"lse": (*q, 1)} if case.lse else {}
    return {**inputs, **vectors, "out": (*q, case.width), **lse}


def room(placed: Placed) -> int:
    """Floats of a tensor with its guards' near halves, AROUND on either side."""
    return placed.span + 2 * AROUND


def _strides(layout: str, name: str, shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
    _, n_head, n, d = shape
    if name in VECTORS or (name == "lse" and layout != "padded"):
        return (n_head * n * d, n * d, d)
    if layout == "model":
        if name == "q":  # a slice of the fused projection (batch, n, 3, n_head, d)
            return (n * 3 * n_head * d, d, 3 * n_head * d)
        if name == "out":  # token-major: (batch, n, n_head, d)
            return (n * n_head * d, d, n_head * d)
        return (n_head * (n + 7) * d, (n + 7) * d, d)  # the first n tokens of a longer cache
    if layout == "padded":
        if name == "lse":  # whose rows are contiguous
            return (n_head * (n + 3) + 5, n + 3, 1)
        gap = {"q": 3, "k": 5, "v": 9, "out": 7}[name]
        token = d + gap
        head = n * token + gap
        return (n_head * head + gap, head, token)
    if layout == "far":
        return (n_head * FAR, FAR, d)
    return (n_head * n * d, n * d, d)


def _reserve(size: int) -> int:
    """The descriptor of a file of so many bytes, in memory if that has room for it.

    It has no name: whatever ends this process, nothing of it stays.

    Raises:
        InputError: there is no room.
    """
    shared = "/dev/shm"
    for folder in (shared, None) if os.access(shared, os.W_OK) else (None,):
        handle, name = tempfile.mkstemp(prefix="gpt149-", dir=folder)
        os.unlink(name)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)  # else a full /dev/shm is a SIGBUS later
            else:
                os.ftruncate(handle, size)
            return handle
        except OSError:
            os.close(handle)
    raise InputError(
        f"there are no {size:,} bytes of room for the inputs in {tempfile.gettempdir()}. "
        "Point TMPDIR to where there are, or ask for smaller shapes."
    )


class Arena:
    """A file that parent and child map. Holds one case at a time. handle: its descriptor.

    What lies far apart lies in a sparse file, which takes no memory where nothing is written.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        """Large enough for each of the cases, also without its variants. Given back by `close`.

        Raises:
            InputError: there is no room, or what lies far apart cannot be mapped.
        """
        self.size = FLOAT_BYTES * max(
            (_room(case) for case in cases if case.layout != "far"), default=1
        )
        self.handle = _reserve(self.size)
        mapped = FLOAT_BYTES * max(map(_room, cases))
        try:
            os.ftruncate(self.handle, mapped)
            self._map = mmap.mmap(self.handle, mapped)
        except (OSError, OverflowError) as e:
            os.close(self.handle)
            raise InputError(f"{mapped:,} bytes cannot be mapped: {e}.") from e
        self.floats = np.frombuffer(self._map, np.float32)
        self.bits = np.frombuffer(self._map, np.uint32)
        self.placed: dict[str, Placed] = {}
        self._inputs: list[NDArray[np.uint32]] = []  # what the input regions held
        self._regions: dict[str, list[slice]] = {}  # of inputs and of out, with what is around them

    def close(self) -> None:
        os.close(self.handle)

    def holds(self, case: Case) -> bool:
        """Whether there is room for a case."""
        return case.layout != "far" and FLOAT_BYTES * _end(case) <= self.size

    def fill(
        self,
        case: Case,
        tensors: Mapping[str, NDArray[Any]],
        *,
        around: np.uint32 = AROUND_INPUTS,
    ) -> None:
        """Poison what the case lies in, then put tensors in their places.

        around: the bits of what is no element of an input, and lies between or beside them.
        """
        assert case.layout == "far" or self.holds(case), f"there is no room for {case}"
        self.placed = place(case)
        if case.layout == "far":
            inputs = [around for name in self._names() for around in _heads(self.placed[name])]
            self._regions = {"inputs": inputs, "out": _heads(self.placed["out"])}
        else:
            self._regions = {
                "inputs": [slice(0, self.n_inputs)],
                "out": [slice(self.n_inputs, self.size // FLOAT_BYTES)],
            }
        for region in self._regions["inputs"]:
            self.bits[region] = around
        for region in self._regions["out"]:
            self.bits[region] = POISON
        for name, tensor in tensors.items():
            self.placed[name].put(tensor, self.floats)
        self._inputs = [self.bits[region].copy() for region in self._regions["inputs"]]

    def flood(self, name: str, numbers: NDArray[np.float32]) -> None:
        """Put numbers in the place of a tensor and its guards' near halves: see `room`."""
        start = self.placed[name].start - AROUND
        self.floats[start : start + len(numbers)] = numbers

    @property
    def n_inputs(self) -> int:
        """How many elements the whole pages have that hold the inputs, before those of out."""
        return (self.placed["out"].start - GUARD) // PAGE * PAGE

    def out(self) -> NDArray[np.float32]:
        """A copy of what the kernel wrote."""
        return self.placed["out"].get(self.floats)

    def lse(self) -> NDArray[np.float32] | None:
        """The same of lse: (batch, n_head, n_q)."""
        return self.placed["lse"].get(self.floats)[..., 0] if "lse" in self.placed else None

    def unwritten(self, name: str = "out") -> NDArray[np.bool_]:
        """Which values of an output still hold the poison: (batch, n_head, n_q, its width)."""
        return _are(self.placed[name], self.floats, POISON)

    def from_outside(self) -> NDArray[np.bool_]:
        """Which values of out are the NaN that lies around the inputs: the kernel read it."""
        return _are(self.placed["out"], self.floats, AROUND_INPUTS)

    def changed_inputs(self) -> list[str]:
        """Names of the inputs in which, or around which, something was changed."""
        names = self._names()
        starts = [self.placed[name].start - GUARD // 2 for name in names]
        owners: set[int] = set()
        for region, held in zip(self._regions["inputs"], self._inputs, strict=True):
            changed = np.flatnonzero(self.bits[region] != held) + region.start
            owners.update((np.searchsorted(starts, changed, side="right") - 1).tolist())
        return [names[i] for i in sorted({max(0, i) for i in owners})]

    def _names(self) -> list[str]:
        """Of the inputs."""
        return [name for name in self.placed if name not in OUTPUTS]

    def written_outside(self) -> tuple[int, int] | None:
        """How many elements outside of out and lse were written, and where the first lies.

        The place counts elements from the end of out's span where positive, else from its start.
        """
        out = self.placed["out"]
        held = {
            name: self.placed[name].bits(self.floats) for name in OUTPUTS if name in self.placed
        }
        values = {name: bits.copy() for name, bits in held.items()}
        for bits in held.values():
            bits[...] = POISON.astype(bits.dtype)
        stray = [
            found + region.start
            for region in self._regions["out"]
            if len(found := np.flatnonzero(self.bits[region] != POISON))
        ]
        for name, bits in held.items():
            bits[...] = values[name]
        if not stray:
            return None
        first = int(stray[0][0]) - out.start
        n = sum(map(len, stray))
        return n, first if first < out.span else first - out.span + 1


def _room(case: Case) -> int:
    """What a case takes, or the same without variants: float32 takes more than bfloat16."""
    whole = replace(case, half=False, half_kv=False)
    return max(map(_end, (case, whole, replace(whole, head_dim_v=0))))


def _end(case: Case) -> int:
    last = list(place(case).values())[-1]
    return last.start + last.span + MARGIN


def _are(placed: Placed, memory: NDArray[np.float32], pattern: np.uint32) -> NDArray[np.bool_]:
    """Where a tensor holds a pattern, whose halves are alike."""
    bits = placed.bits(memory)
    return np.asarray(bits == pattern.astype(bits.dtype))


def _heads(tensor: Placed) -> list[slice]:
    """The memory of each head of a tensor and its guards, where they lie far apart."""
    batch, n_head, n, head_dim = tensor.shape
    starts = (
        tensor.start + b * tensor.strides[0] + h * tensor.strides[1]
        for b in range(batch)
        for h in range(n_head)
    )
    length = (n - 1) * tensor.strides[2] + head_dim
    return [slice(start - GUARD, start + length + GUARD) for start in starts]
