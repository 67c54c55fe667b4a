"""Cache lines that several threads write, each its own part of them: read from samples of stores.

Needs no processor to be idle: who writes where does not depend on what else runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .asm import Instruction, Listing
from .child import Rows
from .trace import MEMORY, addresses

LINE_BYTES = 64
NEAR = 12  # instructions before and behind a sample
REGISTER = re.compile(r"%r\w+")
LEAST_STORES = 8  # to a line
OWN = 0.9  # of the stores to an address, by one thread
LEAST = 0.1  # of the stores to a line, by a second thread


@dataclass(frozen=True)
class Shared:
    """share: of the samples, beside stores to shared lines; address: where most of those are."""

    share: float
    address: int


def shared(rows: Rows, code: Listing) -> Shared | None:
    """The lines that threads share and write to; None if there are none."""
    found = list(_stores(rows, code))
    if not found:
        return None
    pc, at, thread = (np.concatenate(column) for column in zip(*found, strict=True))
    cells, cell = np.unique(at, return_inverse=True)
    owner = np.zeros(len(cells), np.int64)
    owned = np.zeros(len(cells))
    total = np.bincount(cell, minlength=len(cells))
    for one in np.unique(thread):
        n = np.bincount(cell[thread == one], minlength=len(cells))
        owner = np.where(n > owned, one, owner)
        owned = np.maximum(owned, n)
    own = owned >= OWN * total  # cells that are one thread's
    lines, line = np.unique(cells // LINE_BYTES, return_inverse=True)
    by_owner = np.array(
        [
            np.bincount(line[own & (owner == one)], total[own & (owner == one)], len(lines))
            for one in np.unique(thread)
        ]
    )
    most, all_of_line = by_owner.max(axis=0), np.bincount(line, total, len(lines))
    split = (all_of_line >= LEAST_STORES) & (by_owner.sum(axis=0) - most >= LEAST * all_of_line)
    stores = split[line][cell]
    if not stores.any():
        return None
    places, times = np.unique(pc[stores], return_counts=True)
    n_samples = np.isin(rows[:, 0], places).sum()
    return Shared(float(n_samples / len(rows)), int(places[times.argmax()]))


def _stores(
    rows: Rows, code: Listing
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Of samples: where, the address that a store beside it writes, and the thread."""
    places, times = np.unique(rows[:, 0], return_counts=True)
    for pc, n in zip(places.tolist(), times.tolist(), strict=True):
        if not pc or n < 2:
            continue
        here = rows[rows[:, 0] == pc]
        thread = here[:, 2].astype(np.int64)
        for store in _beside(code, pc):
            memory = MEMORY.search(store.operands)
            if memory is None or "%rsp" in store.operands:
                continue
            at = addresses(here, memory)
            if len(at):
                yield np.full(len(at), pc), at, thread


def _beside(code: Listing, pc: int) -> Iterator[Instruction]:
    """Stores before and behind, up to the next jump, whose registers are as they are at pc."""
    at = code.at(pc)
    behind, before = code.instructions[at : at + NEAR], code.instructions[max(0, at - NEAR) : at]
    for run in (behind, before[::-1]):
        changed = ""
        for i in run:
            if i.name.startswith(("j", "call", "ret")):
                break
            if run is not behind:
                changed += f" {_target(i)}"
            if i.stores and not any(name in changed for name in REGISTER.findall(i.operands)):
                yield i
            if run is behind:
                changed += f" {_target(i)}"


def _target(i: Instruction) -> str:
    """The register that an instruction changes; "" if it is memory."""
    last = i.operands.rpartition(",")[2]
    return last if REGISTER.fullmatch(last) else ""
