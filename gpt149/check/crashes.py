"""Where memory was misused, and why: the failing case by itself, with one thing changed.

With a larger stack; with rows contiguous and aligned; with workspace_bytes asked for fewer keys;
under the sanitizers, whatever the case's size, for the line of the author's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..errors import CannotSanitize
from ..kernels.registry import Source
from ..system.talker import PANICS
from .arena import NAMES
from .cases import Case
from .finding import Finding
from .isolation import DEFAULT_TEAM, TEAM, Child
from .observe import Bench, Observation
from .sanitize import MOST_WORK, MemoryFault, sanitize

SANITIZERS = "address,undefined"
TEAMS = (*range(2, 9), 12, 16, 32, 64)  # threads that a kernel may take without asking
LARGE_STACK = 1 << 30  # bytes
MOST_LOCATED = 4  # cases that are run under the sanitizers
MOST_SIZED = 2  # cases of which workspace_bytes is asked again
# What values from beyond the end of memory may look like.
FAKED = ("unknown", "not_finite", "not_repeatable", "added_to_out", "keys_lost", "k_is_another",
         "values_off", "static_state", "weights_negative")  # fmt: skip
FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL")
REASONS = {
    # what a sanitizer says of a crash: a cause, and a sentence
    "stack-overflow": (
        "stack_overflow",
        "the stack overflows: recursion without end, or a large array among the local variables",
    ),
    "misaligned": (
        "misaligned",
        "memory is taken to be aligned: rows may begin at any float, so load and store unaligned",
    ),
}


def misused(failed: Sequence[Observation]) -> list[Case]:
    """Cases to look into: the smallest of each kind of misuse (crashes, overruns, and writes
    outside of out), then the largest of those that take no time. A panic has said where it was.
    """
    kinds: tuple[Callable[[Observation], bool], ...] = (
        lambda o: o.answer.outcome == "crash" and not o.answer.detail.startswith(PANICS),
        lambda o: o.answer.workspace_overrun,
        lambda o: o.written_outside is not None,
    )
    by_work = sorted(failed, key=lambda o: o.case.work)
    hit = [cases for kind in kinds if (cases := [o.case for o in by_work if kind(o)])]
    smallest = sorted((cases[0] for cases in hit), key=lambda case: case.work)
    largest = [([c for c in cases if c.work <= MOST_WORK] or cases)[-1] for cases in hit]
    return list(dict.fromkeys(smallest + largest))[:MOST_LOCATED]


def by_changing(failed: Sequence[Observation], bench: Bench, child: Child) -> Iterator[Finding]:
    """What a larger stack and other numbers of keys tell of crashes and overruns."""
    early = [o for o in failed if o.answer.phase == "workspace_bytes"]
    if any(o.answer.detail.startswith(FAULTS) for o in early):
        yield Finding(
            "workspace_bytes_crashes",
            "workspace_bytes follows a pointer: those to tensors are NULL there, for it is called "
            "before there are any. It may read sizes alone",
            f"in {len(early)} cases",
            len(early) / len(failed),
        )
    crashed = [o for o in failed if o.answer.outcome == "crash" and o.answer.phase == "run"]
    faults = [o for o in crashed if o.answer.detail.startswith(FAULTS)]
    if faults:
        first = min(faults, key=lambda o: o.case.work)
        child.restart()  # else what earlier calls left behind may be what matters
        crashes = bench.observe(first.case).answer.outcome == "crash"
        with child.larger_stack(LARGE_STACK):
            helps = crashes and bench.observe(first.case).passed
        if helps:
            yield Finding(
                "stack_overflow",
                "the stack overflows: large arrays among the local variables belong into the "
                "workspace",
                f"'{first.case.name}' crashes with a stack of {_kib(child.stack_bytes)} KiB and is "
                f"right with {_kib(LARGE_STACK)} KiB",
                len(faults) / len(failed),
            )
        if first.case.layout == "edge" and crashes and not helps:
            crossed = [
                name
                for name in NAMES
                if bench.observe(first.case, fenced=[name]).answer.outcome == "crash"
            ]
            if crossed and bench.observe(first.case, fenced=()).passed:
                yield Finding(
                    "touches_beyond",
                    f"memory behind the end of {' and '.join(crossed)} is touched: values are "
                    "right, but the last row may end where mapped memory does. Is a whole vector "
                    "loaded or stored at a tail?",
                    f"'{first.case.name}' crashes where the page behind is not there, and is right "
                    "where it is",
                    len(faults) / len(failed),
                )
                return
        easier = replace(first.case, layout="contiguous", aligned=True)
        if crashes and not helps and bench.observe(easier).passed:
            yield Finding(
                *REASONS["misaligned"],
                f"'{first.case.name}' crashes, and is right where rows are contiguous and tensors "
                "begin at 64 bytes",
                len(faults) / len(failed),
            )
    short = [o for o in failed if o in crashed or o.answer.workspace_overrun]
    if (team := _team(short, bench)) is not None:
        yield team
    for o in sorted(short, key=lambda o: o.case.work)[:MOST_SIZED]:
        fewer = [o.case.n_kv >> n for n in range(1, 16) if o.case.n_kv >> n]
        asked = o.answer.workspace_bytes
        for n_kv, n_bytes in zip(fewer, child.workspace_sizes(o.case, fewer), strict=False):
            if n_bytes > 2 * max(asked, 1024):
                yield Finding(
                    "workspace_overflows",
                    f"workspace_bytes asks for {asked:,} bytes where n_kv is {o.case.n_kv:,}, and "
                    f"for {n_bytes:,} where it is {n_kv:,}: does it compute in 64 bits?",
                    f"'{o.case.name}'",
                    len(short) / len(failed),
                )
                return


def _team(short: Sequence[Observation], bench: Bench) -> Finding | None:
    """Is the workspace used as for one number of threads, whatever n_threads is?"""
    few = [o.case for o in short if o.case.n_threads < 4 and o.case.work < MOST_WORK]
    few.sort(key=lambda c: c.batch * c.n_head * c.n_q)  # with few rows some threads have nothing
    cases = list({case.n_threads: case for case in few}.values())
    enough = [
        next((n for n in TEAMS if n > c.n_threads and bench.observe(c, sized_for=n).passed), 0)
        for c in cases
    ]
    # Where the workspace is only a little too small, one thread more is enough.
    more = [n - c.n_threads for n, c in zip(enough, cases, strict=True)]
    if len(cases) < 2 or not all(enough) or max(more) < 2:
        return None
    n = max(enough)  # chance may have it that fewer are enough
    if not all(bench.observe(c, sized_for=n).passed for c in cases):
        return None
    default = " (OpenMP's default team, here)" if str(n) == DEFAULT_TEAM[TEAM] else ""
    return Finding(
        "n_threads_ignored",
        f"{n} threads work{default} whatever n_threads is: the workspace, which is made "
        f"for n_threads, is used as if that were {n}",
        f"with so much, calls with n_threads={' and '.join(str(c.n_threads) for c in cases)} are "
        "right",
        1.0,
    )


def located(
    source: Source, kernel: str, cases: Sequence[Case], timeout: float
) -> tuple[MemoryFault | None, str]:
    """What the sanitizers say of the cases, run one by one; and a sentence on it or on its lack."""
    again = f"--sanitize {SANITIZERS}"
    try:
        for case in cases:
            one = replace(case, calls="once")
            fault = sanitize(source, kernel, [one], SANITIZERS, timeout, most_work=None)
            if fault is not None and fault.place:
                return fault, f"{fault.place}: {fault.what} (under the sanitizers, '{case.name}')"
    except CannotSanitize as e:
        return None, f"not known, for want of sanitizers. {str(e).rstrip('.')}"
    names = ", ".join(f"'{case.name}'" for case in cases)
    return None, f"not known: the sanitizers find no line in {names}. For all cases: {again}"


def by_fault(fault: MemoryFault, findings: Sequence[Finding]) -> Iterator[Finding]:
    """A cause that is more telling than the first of these, where a sanitizer says so."""
    for words, (cause, sentence) in REASONS.items():
        if words in fault.what:
            yield Finding(cause, sentence, f"{fault.what} at {fault.place}", 1.0)
            return
    beyond = "READ" in fault.what or "out of bounds" in fault.what
    if beyond and findings and findings[0].cause in FAKED:
        yield Finding(
            "reads_outside",
            f"{fault.place} reads beyond the end of memory: what it takes from there is not the "
            "kernel's, and differs from call to call",
            f"{fault.what}, under the sanitizers in '{fault.case.name}'",
            1.0,
            fault.case.name,
        )


def _kib(n_bytes: int) -> str:
    return f"{n_bytes >> 10:,}"
