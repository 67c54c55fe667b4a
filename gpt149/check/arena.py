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

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .cases import Case

FLOAT_BYTES = 4
POISON = np.uint32(0x7FC0DEAD)  # quiet NaNs: arithmetic produces others, and passes these on
AROUND_INPUTS = np.uint32(0x7FC0BEEF)
GUARD = 1024  # elements before and behind each tensor
AROUND = GUARD // 2  # of them, nobody else's
MARGIN = 16384  # and before and behind all of them
PAGE = mmap.PAGESIZE // FLOAT_BYTES
FAR = 2**30 + 8  # elements between heads; batches lie further apart than 2^31
NAMES = ("q", "k", "v", "out")


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

    def put(self, tensor: NDArray[np.float32], memory: NDArray[np.float32]) -> None:
        """Write the tensor into the arena's memory."""
        if not self.half:
            self.view(memory)[...] = tensor
            return
        halves = memory[self.start :].view(np.uint16)
        strides = tuple(2 * s for s in (*self.strides, 1))
        view = np.lib.stride_tricks.as_strided(halves, self.shape, strides)
        view[...] = tensor.view(np.uint32) >> 16


def place(case: Case) -> dict[str, Placed]:
    """Where each tensor of the case lies: inputs, and behind them, on pages of its own, out.

    At an edge each ends where a page does, and the next page is nobody's: see `calls.fence`.
    """
    placed: dict[str, Placed] = {}
    start = MARGIN
    for name in NAMES:
        if name == "out":
            start = -(-start // PAGE) * PAGE + GUARD
        n_head = case.n_head if name in ("q", "out") else case.n_kv_head
        n = case.n_q if name in ("q", "out") else case.n_kv
        shape = (case.batch, n_head, n, case.head_dim)
        half = case.half_kv and name in ("k", "v")
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


def room(placed: Placed) -> int:
    """Floats of a tensor with its guards' near halves, AROUND on either side."""
    return placed.span + 2 * AROUND


def _strides(layout: str, name: str, shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
    _, n_head, n, d = shape
    if layout == "model":
        if name == "q":  # a slice of the fused projection (batch, n, 3, n_head, d)
            return (n * 3 * n_head * d, d, 3 * n_head * d)
        if name == "out":  # token-major: (batch, n, n_head, d)
            return (n * n_head * d, d, n_head * d)
        return (n_head * (n + 7) * d, (n + 7) * d, d)  # the first n tokens of a longer cache
    if layout == "padded":
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
        """Large enough for each of the cases. Given back by `close`.

        Raises:
            InputError: there is no room, or what lies far apart cannot be mapped.
        """
        self.size = FLOAT_BYTES * max(
            (_end(case) for case in cases if case.layout != "far"), default=1
        )
        self.handle = _reserve(self.size)
        mapped = FLOAT_BYTES * max(map(_end, cases))
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
        tensors: Mapping[str, NDArray[np.float32]],
        *,
        around: np.uint32 = AROUND_INPUTS,
    ) -> None:
        """Poison what the case lies in, then put q, k and v in their places.

        around: the bits of what is no element of an input, and lies between or beside them.
        """
        self.placed = place(case)
        if case.layout == "far":
            inputs = [around for name in ("q", "k", "v") for around in _heads(self.placed[name])]
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
        out: NDArray[np.float32] = self.placed["out"].view(self.floats).copy()
        return out

    def unwritten(self) -> NDArray[np.bool_]:
        """Which values of out still hold the poison."""
        unwritten: NDArray[np.bool_] = self.out().view(np.uint32) == POISON
        return unwritten

    def from_outside(self) -> NDArray[np.bool_]:
        """Which values of out are the NaN that lies around the inputs: the kernel read it."""
        read: NDArray[np.bool_] = self.out().view(np.uint32) == AROUND_INPUTS
        return read

    def changed_inputs(self) -> list[str]:
        """Names of the inputs in which, or around which, something was changed."""
        starts = [self.placed[name].start - GUARD // 2 for name in ("q", "k", "v")]
        owners: set[int] = set()
        for region, held in zip(self._regions["inputs"], self._inputs, strict=True):
            changed = np.flatnonzero(self.bits[region] != held) + region.start
            owners.update((np.searchsorted(starts, changed, side="right") - 1).tolist())
        return [("q", "k", "v")[i] for i in sorted({max(0, i) for i in owners})]

    def written_outside(self) -> tuple[int, int] | None:
        """How many elements outside of out were written, and where the first lies.

        The place counts elements from the end of out's span where positive, else from its start.
        """
        out = self.placed["out"]
        values, inside = self.out(), out.view(self.floats)
        inside.view(np.uint32)[...] = POISON
        stray = [
            found + region.start
            for region in self._regions["out"]
            if len(found := np.flatnonzero(self.bits[region] != POISON))
        ]
        inside[...] = values
        if not stray:
            return None
        first = int(stray[0][0]) - out.start
        n = sum(map(len, stray))
        return n, first if first < out.span else first - out.span + 1


def _end(case: Case) -> int:
    out = place(case)["out"]
    return out.start + out.span + MARGIN


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
