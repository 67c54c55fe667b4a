"""The memory of a call: tensors in the case's layout, between guards, shared with the child.

Everything that is not input is filled with NaN, of one pattern in and around out and another around
the inputs. So what was never written, what was written outside, what was changed though it is
input, and what was computed from memory that is no input can all be told after the call.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .cases import Case

POISON = np.uint32(0x7FC0DEAD)  # quiet NaNs: arithmetic produces others, and passes these on
AROUND_INPUTS = np.uint32(0x7FC0BEEF)
GUARD = 1024  # elements before and behind each tensor
AROUND = GUARD // 2  # of them, nobody else's
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
    """Where each tensor of the case lies."""
    placed: dict[str, Placed] = {}
    start = GUARD
    for name in NAMES:
        n_head = case.n_head if name in ("q", "out") else case.n_kv_head
        n = case.n_q if name in ("q", "out") else case.n_kv
        shape = (case.batch, n_head, n, case.head_dim)
        half = case.half_kv and name in ("k", "v")
        one = Placed(start, shape, _strides(case.layout, name, shape), half)
        placed[name] = one
        start += -(-(one.span + GUARD) // 16) * 16  # 64-byte aligned, as an allocator's
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
    return (n_head * n * d, n * d, d)


def _reserve(size: int) -> tuple[int, Path]:
    """A file of so many bytes, in memory if that has room for it; its descriptor and path.

    Raises:
        InputError: there is no room.
    """
    shared = "/dev/shm"
    for folder in (shared, None) if os.access(shared, os.W_OK) else (None,):
        handle, name = tempfile.mkstemp(prefix="gpt149-", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)  # else a full /dev/shm is a SIGBUS later
            else:
                os.ftruncate(handle, size)
            return handle, Path(name)
        except OSError:
            os.close(handle)
            os.unlink(name)
    raise InputError(
        f"there are no {size:,} bytes of room for the inputs in {tempfile.gettempdir()}. "
        "Point TMPDIR to where there are, or ask for smaller shapes."
    )


class Arena:
    """A file that parent and child map. Holds one case at a time."""

    def __init__(self, cases: list[Case]) -> None:
        """Large enough for each of the cases. Deleted by `close`."""
        ends = [p["out"].start + p["out"].span + GUARD for p in map(place, cases)]
        self.size = 4 * max(ends)
        handle, self.path = _reserve(self.size)
        self._map = mmap.mmap(handle, self.size)
        os.close(handle)
        self.floats = np.frombuffer(self._map, np.float32)
        self.bits = np.frombuffer(self._map, np.uint32)
        self.placed: dict[str, Placed] = {}
        self._inputs = np.empty(0, np.uint32)

    def close(self) -> None:
        self.path.unlink(missing_ok=True)

    def fill(self, case: Case, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Poison what the case lies in, then put q, k and v in their places."""
        self.placed = place(case)
        out = self.placed["out"]
        self.bits[: self._out_start] = AROUND_INPUTS
        self.bits[self._out_start : out.start + out.span + GUARD] = POISON
        for name, tensor in tensors.items():
            self.placed[name].put(tensor, self.floats)
        self._inputs = self.bits[: self._out_start].copy()

    def flood(self, name: str, numbers: NDArray[np.float32]) -> None:
        """Put numbers in the place of a tensor and its guards' near halves: see `room`."""
        start = self.placed[name].start - AROUND
        self.floats[start : start + len(numbers)] = numbers

    @property
    def _out_start(self) -> int:
        """Inputs and their guards lie before this element, out and its guards from it on."""
        return self.placed["out"].start - GUARD // 2

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
        changed = np.flatnonzero(self.bits[: self._out_start] != self._inputs)
        starts = [self.placed[name].start - GUARD // 2 for name in ("q", "k", "v")]
        owners = np.searchsorted(starts, changed, side="right") - 1
        return [("q", "k", "v")[i] for i in sorted(set(np.maximum(owners, 0).tolist()))]

    def written_outside(self) -> tuple[int, int] | None:
        """How many elements outside of out were written, and where the first lies.

        The place counts elements from the end of out's span where positive, else from its start.
        """
        place = self.placed["out"]
        region = self.bits[self._out_start : place.start + place.span + GUARD].copy()
        inside = Placed(place.start - self._out_start, place.shape, place.strides)
        inside.view(region.view(np.float32)).view(np.uint32)[...] = POISON
        stray = np.flatnonzero(region != POISON)
        if not len(stray):
            return None
        first = int(stray[0]) - inside.start
        return len(stray), first if first < place.span else first - place.span + 1
