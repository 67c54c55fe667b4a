"""A kernel's profile: every instrument in turn on each shape, then the causes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..bench.ceilings import Ceilings
from ..bench.shapes import Shape
from ..check.cases import Case
from ..kernels.build import Target, build_all
from ..kernels.registry import Source, compiled, locate, to_build
from ..system.paths import shipped
from . import asm, hot, lines, missed, sharing, trace
from .causes import causes
from .child import Watched
from .evidence import Cause, Evidence
from .experiments import Found, affordable, observe, usual_seconds
from .lines import Place

YARDSTICK = "simd"  # our quickest kernel, which others are told beside
SHAPES = ("12,512,64", "12,1x2048,64")  # a prefill, and a decode step
SQUARE_SHAPES = ("4,1024,32:full",)  # for the assignment's kernels
SAMPLE_SECONDS, SAMPLE_NANOSECONDS = 0.4, 100_000
OFTEN = 0.5  # times a pair of query and key that what is called in a loop is executed
SHARED_SECONDS = 0.2
MOST_STEPS, FEW_STEPS = 120_000, 30_000  # at some 10 us each


@dataclass(frozen=True)
class Profile:
    """One shape's. unseen: sentences, what could not be seen and why."""

    evidence: Evidence
    causes: Sequence[Cause]
    lines: Sequence[tuple[Place, float]]
    unseen: Sequence[str]

    @property
    def found(self) -> Found:
        return self.evidence.found


def profile(
    spec: str,
    shapes: Sequence[Shape],
    most: Ceilings,
    progress: Callable[[str], None],
    *,
    brief: bool = False,
) -> list[Profile]:
    """Of a kernel on each shape, with as many threads as the ceilings were measured with.

    brief: somebody waits for the first cause: without the compiler's word, and simd beside it.

    Raises:
        InputError, BuildError, MissingDependency: as `locate` and `build_all`.
        KernelCrashed, KernelDeclined: the kernel cannot be watched on such a call.
    """
    source, ours = locate(spec), locate(YARDSTICK)
    progress("compiling")
    sampler = build_all([watching()])[0]
    library = _with_lines(source)
    code = asm.listing(library) if library and asm.readable() else None
    profiles = []
    with ThreadPoolExecutor(1) as aside, Watched(source, library, sampler) as child:
        record, seconds = None, dict[Shape, float]()
        if not brief:
            compiling = aside.submit(_record, source, library)
            seconds = _yardstick(ours, sampler, shapes, most) if source != ours else {}
            record = compiling.result()  # what compiles beside it is not to be timed
        for shape in shapes:
            child.told = functools.partial(progress, f"watching {shape.name}")
            found = observe(child, shape, most.n_threads, square=source.square, brief=brief)
            found.simd = seconds.get(shape)
            profiles.append(_judged(child, found, most, code, record, brief))
    return profiles


def watching() -> Target:
    """The library that samples, steps and counts within the child."""
    tools = shipped("csrc") / "tools"
    return Target((tools / "sampler.cpp", tools / "counters.cpp"))


def _yardstick(
    source: Source, sampler: Path, shapes: Sequence[Shape], most: Ceilings
) -> dict[Shape, float]:
    """Seconds that simd takes for each shape."""
    with Watched(source, compiled(source), sampler) as child:
        return {shape: usual_seconds(child, shape, most.n_threads) for shape in shapes}


def _record(source: Source, library: Path | None) -> missed.Record | None:
    """Of an author's file. Those of ours that are several take long, and are vectors by hand."""
    target = to_build(source)
    if target is None or library is None or len(target.sources) > 1:
        return None
    return missed.record(target, library)


def _with_lines(source: Source) -> Path | None:
    """The library, with lines; None for what is not built of a source."""
    target = to_build(source)
    if target is None or source.loader == "cs149":  # which has lines, and headers of its own
        return compiled(source)
    return build_all([replace(target, lines=True)])[0]


def _judged(
    child: Watched,
    found: Found,
    most: Ceilings,
    code: asm.Listing | None,
    record: missed.Record | None,
    brief: bool,
) -> Profile:
    """Samples and steps of the shape, and what all of it means."""
    evidence = Evidence(found, most, child.lanes, record=record)
    if child.library is None or child.source.path is None:
        evidence = replace(evidence, compiled=False)
        unseen = ["lines and instructions: it is Python"]
        return Profile(evidence, causes(evidence), (), unseen)
    case, _ = affordable(replace(found.shape.case(1), batch=1), found.one)
    rows = child.samples(case, SAMPLE_SECONDS / (1 + brief), SAMPLE_NANOSECONDS)
    if rows is None:
        unseen = ["lines and instructions: this system has no timer that interrupts a thread"]
        return Profile(evidence, causes(evidence), (), unseen)
    samples = hot.counted(rows)
    addresses = sorted({pc or site - 1 for pc, site, _ in samples})
    places = lines.places(child.library, addresses, child.source.path)
    evidence, refused = _with_counters(child, evidence, case)
    unseen = [refused] if refused else []
    unseen += [] if lines.readable() else ["lines: there is no addr2line (binutils)"]
    if code is None:
        unseen.append("instructions: there is no objdump (binutils), or this is no x86-64")
        return Profile(evidence, causes(evidence), hot.by_line(samples, places), unseen)
    square = child.source.square
    n_steps = FEW_STEPS if brief else MOST_STEPS
    smaller = trace.small(case, found.one / found.shape.pairs, n_steps, square=square)
    tries = [(small, n_steps) for small in (smaller[-1:] if brief else smaller)]
    for small, most_steps in tries if brief else [*tries, (smaller[-1], 2 * n_steps)]:
        steps = child.steps(small, most_steps)
        if steps is None or steps.whole:
            break
    if steps:
        counts = trace.count(steps, code, small)
        executed = dict(zip(*np.unique(steps.rows[:, 0], return_counts=True), strict=True))
        often = OFTEN * small.n_q * small.n_kv
        lanes = {i.address: i.lanes for i in code.instructions}
        seen = hot.Seen(
            functools.cache(functools.partial(trace.strided, steps)),
            lambda address: executed.get(address, 0) >= often,
            lambda address: executed.get(address, 0) * lanes.get(address, 1) < often,
            functools.cache(functools.partial(trace.sums_on_stack, steps)),
        )
        parts = hot.parts(samples, code, places, child.lanes, seen)
        turns = trace.turns(steps, code)
        alone = held = 0.0
        if turns.regions:  # else one thread works, and nobody waits for it
            alone, held = (turns.share(of, samples) for of in (turns.alone, turns.held))
        evidence = replace(
            evidence, parts=parts, counts=counts, n_traced=small.n_q, alone=alone, held=held
        )
    else:
        evidence = replace(evidence, parts=hot.parts(samples, code, places, child.lanes))
        unseen.append("what is executed, by steps: they cannot be followed here")
    evidence = _with_sharing(child, evidence, code)
    return Profile(evidence, causes(evidence), hot.by_line(samples, places), unseen)


def _with_counters(child: Watched, evidence: Evidence, case: Case) -> tuple[Evidence, str]:
    """And a sentence, where the processor's counters may not be read."""
    counters = child.counters(case)
    if isinstance(counters, str):
        return evidence, f"counters of instructions, cycles and cache misses ({counters})"
    return replace(evidence, counters=counters), ""


def _with_sharing(child: Watched, evidence: Evidence, code: asm.Listing) -> Evidence:
    """What threads write to the same cache lines, if several work."""
    found = evidence.found
    if found.workers < 2 or child.source.path is None or child.library is None:
        return evidence
    case = replace(found.shape.case(found.n_threads), batch=1)
    rows = child.samples(case, SHARED_SECONDS, SAMPLE_NANOSECONDS)
    seen = sharing.shared(rows, code) if rows is not None else None
    if seen is None:
        return evidence
    places = lines.places(child.library, [seen.address], child.source.path)
    return replace(evidence, shared=seen, shared_place=places.get(seen.address))
