"""What one small call executed, counted exactly: no clock, so no noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..check.cases import Case
from .asm import Listing, Loop
from .child import Steps

MEMORY = re.compile(r"(-?0x[0-9a-f]+)?\((%\w+)?(?:,(%\w+),(\d))?\)")
NAMES = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
COLUMN = {f"%{name}": 1 + at for at, name in enumerate(NAMES)}
MEETINGS = ("GOMP_parallel", "GOMP_barrier", "__kmpc_barrier", "__kmpc_fork")
ONE_BY_ONE = re.compile(r"^v?(movss|movd|insertps|pinsrd|mulss|addss|fn?m(add|sub)\w+ss)$")
LEAST_STEPS = 8
FAR = 64  # bytes: a cache line
MOST_HEAD_DIM = 32  # half of GPT-2's, so that twice as many queries can be followed
STEPS_A_SECOND = 6e9  # instructions that a CPU executes, for a guess


@dataclass(frozen=True)
class Counts:
    """Of a call with no mask. Multiplications and copied floats are per one that is needed.

    multiplied: float products of it, against 2 n_q n_kv head_dim. copied: floats that loops move
    without calculating, against those of k and v. meetings: regions and barriers, at which threads
    meet. whole: the call came to its end; if not, the others are bounds from below.
    """

    multiplied: float
    copied: float
    meetings: int
    whole: bool


def count(steps: Steps, code: Listing, case: Case) -> Counts:
    """Of the steps of a case's call."""
    addresses, times = np.unique(steps.rows[:, 0], return_counts=True)
    multiplied = copied = 0.0
    meetings = 0
    for address, n in zip(addresses.tolist(), times.tolist(), strict=True):
        i = code.instructions[code.at(address)]
        if i.fused or ("mul" in i.name and i.kind):
            multiplied += n * i.lanes
        meetings += n * i.calls.startswith(MEETINGS)
        loop = code.loop_of(i.address) if i.stores else None
        if loop and loop.kind == "copies" and "%rsp" not in i.operands:
            copied += n * i.width
    pairs = case.n_head * case.n_q * case.n_kv
    return Counts(
        multiplied / (2 * pairs * case.head_dim),
        copied / (2 * case.n_kv_head * case.n_kv * case.head_dim),
        meetings,
        steps.whole,
    )


def strided(steps: Steps, loop: Loop) -> bool:
    """Whether a loop calculates with numbers that it reads one by one, a cache line apart."""
    if not loop.arithmetic:
        return False
    far = near = 0
    for i in loop.body:
        memory = MEMORY.search(i.operands)
        if i.stores or not memory or i.name.startswith(("lea", "prefetch", "nop")):
            continue
        at = _addresses(steps.rows[steps.rows[:, 0] == i.address], memory)
        stride = int(np.median(np.abs(np.diff(at)))) if len(at) > LEAST_STEPS else 0
        if ONE_BY_ONE.match(i.name) and stride >= FAR:
            far += 1
        elif stride:
            near += 1
    return far > 0 and far >= near


def _addresses(rows: NDArray[np.uint64], memory: re.Match[str]) -> NDArray[np.int64]:
    """The addresses that a memory operand means, step by step; empty if they cannot be known."""
    displacement, base, index, scale = memory.groups()
    if any(name and name not in COLUMN for name in (base, index)):
        return np.empty(0, np.int64)
    at = np.full(len(rows), int(displacement or "0", 16), np.int64)
    if base:
        at += rows[:, COLUMN[base]].astype(np.int64)
    if index:
        at += rows[:, COLUMN[index]].astype(np.int64) * int(scale)
    return at


def small(head: Case, seconds: float, most: int, *, square: bool) -> Case:
    """One head without a mask, about as large as can be followed in `most` steps.

    seconds: what a pair of query and key takes. square: n_q = n_kv. Tiles are filled where that
    is affordable.
    """
    head_dim = min(head.head_dim, MOST_HEAD_DIM)
    steps_a_pair = max(seconds * STEPS_A_SECOND, 2 * head.head_dim / 16)
    steps_a_pair *= head_dim / head.head_dim
    sizes: Sequence[tuple[int, int]] = ((96, 64), (64, 64), (32, 32), (16, 32), (8, 16))
    bare = replace(head, causal=False, n_threads=1, n_head=1, n_kv_head=1, head_dim=head_dim)
    bare = replace(bare, window=0, head_dim_v=0)
    fitting = [(q, kv) for q, kv in sizes if q * kv * steps_a_pair <= most] or [sizes[-1]]
    n_q, n_kv = fitting[0]
    n_q = n_kv if square else n_q
    return replace(bare, n_q=n_q, n_kv=n_kv)
