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
from .hot import COPIERS, EXPONENTIALS

MEMORY = re.compile(r"(-?0x[0-9a-f]+)?\((%\w+)?(?:,(%\w+),(\d))?\)")
NAMES = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
COLUMN = {f"%{name}": 3 + at for at, name in enumerate(NAMES)}
MEETINGS = ("GOMP_parallel", "GOMP_barrier", "__kmpc_barrier", "__kmpc_fork", "pthread_create",
            "_M_start_thread", "pthread_barrier_wait")  # fmt: skip
ENOUGH = 0.9
ONE_BY_ONE = re.compile(r"^v?(movss|movd|insertps|pinsrd|mulss|addss|fn?m(add|sub)\w+ss)$")
# Of a loop that brings floats from far apart into a vector.
GATHERED = re.compile(r"^v?(insertps|pinsrd|unpckl\w+|p?gather\w+)$")
LOCKED = ("GOMP_critical_start", "GOMP_critical_name_start", "GOMP_atomic_start", "omp_set_lock",
          "pthread_mutex_lock", "pthread_spin_lock")  # fmt: skip
UNLOCKED = ("GOMP_critical_end", "GOMP_critical_name_end", "GOMP_atomic_end", "omp_unset_lock",
            "pthread_mutex_unlock", "pthread_spin_unlock")  # fmt: skip
PARALLEL = ("GOMP_parallel", "__kmpc_fork")
RED_ZONE, STACK_BYTES, MANY_ON_STACK = 256, 1 << 18, 3
LEAST_STEPS = 8
FAR = 64  # bytes: a cache line
MOST_HEAD_DIM = 32  # half of GPT-2's, so that twice as many queries can be followed
STEPS_A_SECOND = 6e9  # instructions that a CPU executes, for a guess


@dataclass(frozen=True)
class Counts:
    """Of a call with no mask. Multiplications and copied floats are per one that is needed.

    multiplied: float products of it, against 2 n_q n_kv head_dim; rescaled: those of them that are
    not fused with an addition, where the others are enough. copied, scattered: floats that loops
    move without calculating, against those of k and v: in their order, and into another one. exps:
    calls of a library's exp, per pair of query and key. meetings: regions and barriers at which
    threads meet, and threads that begin. whole: the call came to its end; else all are bounds from
    below.
    """

    multiplied: float
    copied: float
    meetings: int
    whole: bool
    scattered: float = 0.0
    rescaled: float = 0.0
    exps: float = 0.0


def count(steps: Steps, code: Listing, case: Case) -> Counts:
    """Of the steps of a case's call."""
    addresses, times = np.unique(steps.rows[:, 0], return_counts=True)
    fused = plain = copied = scattered = exps = 0.0
    meetings = 0
    for address, n in zip(addresses.tolist(), times.tolist(), strict=True):
        i = code.instructions[code.at(address)]
        if i.fused:
            fused += n * i.lanes
        elif "mul" in i.name and i.kind:
            plain += n * i.lanes
        meetings += n * any(word in i.calls for word in MEETINGS)
        exps += n * (i.calls in EXPONENTIALS)
        if i.calls in COPIERS:
            copied += _sum(steps.rows[steps.rows[:, 0] == address][:, COLUMN["%rdx"]]) / 4
        loop = code.loop_of(i.address) if i.stores else None
        if loop and loop.kind == "copies" and "%rsp" not in i.operands:
            if i.width == 1 or i.name.endswith("ss"):
                scattered += n
            elif any(GATHERED.match(j.name) for j in loop.body):
                scattered += n * i.width
            else:
                copied += n * i.width
    pairs = case.n_head * case.n_q * case.n_kv
    products, floats = 2 * pairs * case.head_dim, 2 * case.n_kv_head * case.n_kv * case.head_dim
    enough = fused >= ENOUGH * products
    return Counts(
        (fused if enough else fused + plain) / products,
        copied / floats,
        meetings,
        steps.whole,
        scattered / floats,
        plain / products if enough else 0.0,
        exps / pairs,
    )


@dataclass(frozen=True)
class Turns:
    """What a call does with one thread, by address. regions: of parallel work there are any.

    alone: the share of an instruction's executions outside of them; held: under a lock.
    """

    alone: dict[int, float]
    held: dict[int, float]
    regions: bool

    def share(self, of: dict[int, float], samples: Sequence[tuple[int, int, int]]) -> float:
        """Of the time, by samples: so it is the share at their size, which may be another."""
        total = max(1, sum(n for *_, n in samples))
        return sum(n * of.get(pc or site, 0.0) for pc, site, n in samples) / total


def turns(steps: Steps, code: Listing) -> Turns:
    """Where threads would work side by side, and where one after the other."""
    at, thread = steps.rows[:, 0], steps.rows[:, 2]
    places, times = np.unique(at, return_counts=True)
    called = {pc: code.instructions[code.at(pc)].calls for pc in places.tolist()}
    depth = np.zeros(len(at) + 1, np.int64)
    regions = thread > 0
    begun = bool(regions.any())
    for pc, name in called.items():
        if name in LOCKED:
            depth[:-1] += at == pc
        elif name in UNLOCKED:
            depth[:-1] -= at == pc
        elif name.startswith(PARALLEL):
            begun = True
            back = code.instructions[min(code.at(pc) + 1, len(code.instructions) - 1)].address
            for start in np.flatnonzero(at == pc):
                rest = np.flatnonzero(at[start:] == back)
                regions[start : start + (rest[0] if len(rest) else len(at))] = True
    held = np.cumsum(depth[:-1]) > 0

    def shares(of: NDArray[np.bool_]) -> dict[int, float]:
        found, n = np.unique(at[of], return_counts=True)
        every = dict(zip(places.tolist(), times.tolist(), strict=True))
        return {pc: k / every[pc] for pc, k in zip(found.tolist(), n.tolist(), strict=True)}

    return Turns(shares(~regions), shares(held), begun)


def sums_on_stack(steps: Steps, loop: Loop) -> bool:
    """Whether a loop's sums are vectors in the stack's memory, instead of in registers."""
    if not loop.innermost or not any(i.fused for i in loop.body):
        return False
    on_stack = 0
    for i in loop.body:
        memory = MEMORY.search(i.operands)
        if not i.stores or i.width <= 4 or not memory:
            continue
        rows = steps.rows[steps.rows[:, 0] == i.address]
        at = addresses(rows, memory)
        if not len(at):
            continue
        above = at - rows[:, COLUMN["%rsp"]].astype(np.int64)
        on_stack += bool(np.all((above > -RED_ZONE) & (above < STACK_BYTES)))
    return on_stack >= MANY_ON_STACK


def _sum(sizes: NDArray[np.uint64]) -> float:
    return float(sizes.astype(np.float64).sum())


def strided(steps: Steps, loop: Loop) -> bool:
    """Whether a loop calculates with numbers that it reads one by one, a cache line apart."""
    if not loop.arithmetic:
        return False
    far = near = 0
    for i in loop.body:
        memory = MEMORY.search(i.operands)
        if i.stores or not memory or i.name.startswith(("lea", "prefetch", "nop")):
            continue
        at = addresses(steps.rows[steps.rows[:, 0] == i.address], memory)
        stride = int(np.median(np.abs(np.diff(at)))) if len(at) > LEAST_STEPS else 0
        if ONE_BY_ONE.match(i.name) and stride >= FAR:
            far += 1
        elif stride:
            near += 1
    return far > 0 and far >= near


def addresses(rows: NDArray[np.uint64], memory: re.Match[str]) -> NDArray[np.int64]:
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


def small(head: Case, seconds: float, most: int, *, square: bool) -> list[Case]:
    """One head without a mask, as large as can be followed in about `most` steps; and a smaller.

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
    return [replace(bare, n_q=kv if square else q, n_kv=kv) for q, kv in fitting[:2]]
