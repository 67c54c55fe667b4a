"""Why a part is wrong, beyond what `check` says: what the assignment's own cases tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..check.cases import Case
from ..check.crashes import SANITIZERS
from ..check.finding import Finding, once
from ..check.observe import Observation
from ..check.predictions import MOST_WORK
from ..check.run import Report, check
from ..check.sanitize import MemoryFault, sanitize
from ..errors import CannotSanitize
from ..kernels.registry import locate
from ..system.threads import checked_threads

MOST_EXPONENT = 80.0  # of a float32 exp that is to be summed
UNSURE = ("crash", "exits", "unknown", "not_finite", "reads_outside", "static_state")
# What was seen, in however few cases; other causes are guesses where they fit less than half.
SEEN = ("crash", "hang", "exits", "out_of_memory", "raised", "mutates_input", "writes_outside",
        "workspace_overrun")  # fmt: skip
OVERFLOW_NOTE = (
    "will overflow at long contexts (exp of more than about 88 is infinite); subtract the row "
    "maximum"
)
LOW_NOTE = (
    "gives NaN, or nothing, for a row whose scores are all very low (exp of them is 0): the row "
    "maximum must start at -infinity or at the row's first score, not at 0 or FLT_MIN"
)


EVEN = 8  # what head_dim is a multiple of, in all that is asked
DIM_NOTE = (
    f"is wrong where d is no multiple of {EVEN} (tried: d = 20; the assignment has 32): loops over "
    f"d in steps need another for the rest"
)


def note(o: Observation) -> str | None:
    """What to say of a case beyond what is asked: nothing, a note, or None where it is wrong."""
    if o.passed:
        return ""
    if o.case.head_dim % EVEN:
        return DIM_NOTE
    if o.case.inputs == "low":
        return LOW_NOTE
    if o.verdict is None or o.changed_inputs or o.written_outside:
        return None
    scores = o.q.astype(np.float64) @ o.k.astype(np.float64).swapaxes(-1, -2)
    overflowing = scores.max(-1) > MOST_EXPONENT
    return None if (o.verdict.wrong.any(-1) & ~overflowing).any() else OVERFLOW_NOTE


def only_zeros(report: Report) -> bool:
    """Whether every case gives zeros: a part that nobody has written."""
    return not report.left_out and all(map(_zeros, report.observations))


def cause_of(report: Report) -> str:
    """The cause in a word, or a few."""
    if not report.findings:
        return "memory"
    first = report.findings[0]
    return "unknown" if first.partial and first.cause not in SEEN else first.cause


def explained(spec: str, report: Report, timeout: float) -> Report:
    """The report of a wrong part, with what can be said beyond `check`.

    timeout: seconds a call.
    """
    if found := [*_without_partial_tiles(report), *_block_maximum(report)]:
        said = [finding for finding in report.findings if finding.cause != "zeros"]
        return _joined(replace(report, findings=said), found)
    if report.fault is None and cause_of(report) in UNSURE:
        report = _with_memory_faults(spec, report, timeout)
    others = [o.case for o in report.observations if not _zeros(o)]
    if cause_of(report) == "zeros" and others:  # which tell more
        return _joined(report, check(spec, others, timeout=timeout).findings)
    return report


def _zeros(o: Observation) -> bool:
    return o.verdict is not None and not o.out.any()


def _joined(report: Report, findings: Sequence[Finding]) -> Report:
    """The report with these findings before its own."""
    return replace(report, findings=once([*findings, *report.findings]))


def _without_partial_tiles(report: Report) -> Iterator[Finding]:
    """Zeros exactly where N is below a tile: the number of tiles is rounded down."""
    seen = report.observations
    zeros = [o.case for o in seen if _zeros(o)]
    if 0 < len(zeros) < len(seen) and {c.name for c in zeros} == {
        o.case.name for o in seen if _below_a_tile(o.case)
    }:
        yield Finding(
            "partial_tiles_dropped",
            "the number of tiles is rounded down, N / Br or N / Bc: the last, partial tile is left "
            "out, which is all of it where N is smaller",
            f"the output is all zeros in the {len(zeros)} cases with N below Br or Bc, and in no "
            "other",
            len(zeros) / len(report.failed),
        )


def _below_a_tile(case: Case) -> bool:
    return case.n_kv < case.br or case.n_kv < case.bc


def _block_maximum(report: Report) -> Iterator[Finding]:
    """NaN where the scores of later tiles are far lower, and nowhere else."""
    failed = report.failed
    if not failed or not all(o.case.inputs == "falling-far" and o.wrong for o in failed):
        return
    if not any(o.case.inputs == "rising-far" for o in report.observations):
        return
    if not all(np.isnan(o.out[o.verdict.wrong]).all() for o in failed if o.verdict):
        return
    yield Finding(
        "block_max",
        "the maximum is the tile's own, not the running one of the row: rescaling the sum by exp "
        "of the old maximum minus the new one overflows",
        "NaN where each tile of keys scores far lower than the one before, right where each scores "
        "higher",
        1.0,
    )


def _with_memory_faults(spec: str, report: Report, timeout: float) -> Report:
    """The report with what the sanitizers say of its smaller cases, each in a fresh process.

    Values of a case that writes outside of its memory mean nothing, and spoil what comes behind: a
    mistake is then looked for in the clean cases alone.
    """
    source = locate(spec)
    small = [o.case for o in report.observations if o.case.work <= MOST_WORK]

    def fault_in(case: Case) -> MemoryFault | None:
        return sanitize(source, source.name, [case], SANITIZERS, timeout)

    try:
        with ThreadPoolExecutor(checked_threads(None)) as pool:
            faults = list(pool.map(fault_in, small))
    except CannotSanitize:
        return report
    faulty = [fault for fault in faults if fault]
    if not faulty:
        return report
    clean = [case for case, fault in zip(small, faults, strict=True) if not fault]
    again = check(spec, clean, timeout=timeout).findings if clean else []
    named = [finding for finding in again if finding.cause not in UNSURE]
    return _joined(replace(report, fault=faulty[0]), named)
