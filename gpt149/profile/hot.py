"""Samples by what the code there does: shares of the time, with their lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .asm import Instruction, Listing, Loop
from .child import Rows
from .lines import Place

Sample = tuple[int, int, int]  # the address, else 0; where the kernel called from, else 0; how many
IN_ORDER = 8  # scalar additions in a row: a sum whose order the compiler had to keep
EXPONENTIALS = ("expf", "exp", "exp2f", "exp2", "expm1f", "expm1", "powf", "pow", "tanhf", "tanh")
ALLOCATORS = ("malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "mmap",
              "munmap", "mmap64", "_Znwm", "_Znam", "_ZdlPv", "_ZdaPv", "_ZdlPvm")  # fmt: skip
ONE_VALUE = ("fmaxf", "fminf", "fmax", "fmin", "fabsf", "floorf", "roundf")
LOCKS = ("GOMP_critical_start", "GOMP_critical_end", "GOMP_atomic_start", "GOMP_atomic_end",
         "GOMP_critical_name_start", "GOMP_critical_name_end", "omp_set_lock", "omp_unset_lock",
         "pthread_mutex_lock", "pthread_mutex_unlock")  # fmt: skip
COPIERS = ("memcpy", "memmove", "memset")


@dataclass
class Part:
    """What takes a share of the time. lines: by how much of it; called: functions, likewise."""

    share: float = 0.0
    lines: Counter[Place] = field(default_factory=Counter)
    called: Counter[str] = field(default_factory=Counter)
    loops: Counter[Loop] = field(default_factory=Counter)

    @property
    def place(self) -> Place | None:
        """The line that most of it is in."""
        return self.lines.most_common(1)[0][0] if self.lines else None


Parts = dict[str, Part]


@dataclass(frozen=True)
class Seen:
    """What steps tell of code.

    strided: whether a loop reads numbers one by one, far apart. repeated: whether an instruction is
    executed about once a pair of query and key, or more: a function of such, without a loop of its
    own, is called from one, and counts as it. rare: whether it is known to make fewer
    numbers than that.
    on_stack: whether a loop's sums are on the stack.
    """

    strided: Callable[[Loop], bool] = lambda _: False
    repeated: Callable[[int], bool] = lambda _: False
    rare: Callable[[int], bool] = lambda _: False
    on_stack: Callable[[Loop], bool] = lambda _: False


NOTHING_SEEN = Seen()


def counted(rows: Rows) -> list[Sample]:
    """How often each place was seen."""
    found, times = np.unique(rows[:, :2], axis=0, return_counts=True)
    return [(pc, site, n) for (pc, site), n in zip(found.tolist(), times.tolist(), strict=True)]


def by_line(samples: Sequence[Sample], places: dict[int, Place]) -> list[tuple[Place, float]]:
    """Lines of the source and their shares of the time, the largest first."""
    total = max(1, sum(n for *_, n in samples))
    found: Counter[Place] = Counter()
    for pc, site, n in samples:
        if place := places.get(pc or site - 1):
            found[place] += n
    return [(place, n / total) for place, n in found.most_common()]


def parts(
    samples: Sequence[Sample],
    code: Listing,
    places: dict[int, Place],
    lanes: int,
    seen: Seen = NOTHING_SEEN,
) -> Parts:
    """The time by what it goes into; lanes: floats of the widest vector of the machine.

    Names are those of `causes`, besides `product` (vectors, as they should be) and `other`.
    """
    total = max(1, sum(n for *_, n in samples))
    found: Parts = {}
    loops: dict[int, Loop | None] = {}
    for pc, site, n in samples:
        address = pc or site - 1
        at = code.at(address)
        if at not in loops:
            start = code.instructions[at].address
            around = code.loop_of(start)
            loops[at] = around or (code.function_of(start) if seen.repeated(start) else None)
        loop = loops[at]
        if pc and loop and loop.innermost and seen.strided(loop):
            name = "strided_access"
        else:
            name = _inside(code, at, loop, lanes, seen) if pc else _outside(code.instructions[at])
        if name == "product" and loop and seen.on_stack(loop):
            name = "spills"
        part = found.setdefault(name, Part())
        part.share += n / total
        if place := places.get(address):
            part.lines[place] += n
        if not pc:
            part.called[code.instructions[at].calls] += n
        if loop:
            part.loops[loop] += n
    return found


def _outside(call: Instruction) -> str:
    """What time in other libraries goes into, by what the kernel called."""
    if call.calls in EXPONENTIALS:
        return "scalar_exp"
    if call.calls in ONE_VALUE:
        return "scalar_loop"
    if call.calls in LOCKS:
        return "atomics"
    if call.calls in ALLOCATORS:
        return "allocates"
    return "copies_tensors" if call.calls in COPIERS else "other"


def _inside(code: Listing, at: int, loop: Loop | None, lanes: int, seen: Seen) -> str:
    near = code.instructions[max(0, at - 1) : at + 1]
    if any(i.atomic for i in code.instructions[max(0, at - 2) : at + 1]):
        return "atomics"
    if any(i.calls in EXPONENTIALS for i in near):
        return "scalar_exp"
    dividing = loop.body if loop and loop.innermost else near
    if loop and any(i.divides and not seen.rare(i.address) for i in dividing):
        return "division_in_loop"
    folds = code.instructions[at].address in code.folds
    in_order = loop is not None and loop.innermost and _in_order(loop)
    if folds and not in_order:
        return "horizontal_sums"
    if loop is None:
        return "other"
    kind = loop.kind
    if kind == "double":
        return "double_arithmetic"
    if kind == "gathers":
        return "strided_access"
    if kind == "scalar" or in_order:
        if any(i.calls in EXPONENTIALS for i in loop.body) and loop.innermost:
            return "scalar_exp"
        return "scalar_loop" if loop.innermost else "other"
    if kind == "copies":
        return "copies_tensors"
    if kind == "unfused":
        return "no_fma"
    if kind == "vector" and loop.spills:
        return "spills"
    if kind == "vector" and 2 * loop.width <= lanes:
        return "narrow_vectors"
    if kind == "vector" and loop.waits:
        return "latency_bound"
    return "product" if kind == "vector" else "other"


def _in_order(loop: Loop) -> bool:
    """Whether the lanes of a product are added up one after the other within the loop."""
    n_vectors = sum(i.lanes > 1 and (i.fused or "add" in i.name) for i in loop.body)
    return not n_vectors and sum(i.name in ("vaddss", "addss") for i in loop.body) >= IN_ORDER
