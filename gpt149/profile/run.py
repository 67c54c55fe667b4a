"""A kernel's profile: every instrument in turn on each shape, then the causes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..bench.ceilings import Ceilings
from ..bench.shapes import Shape
from ..errors import BuildError
from ..kernels.build import Target, build_all
from ..kernels.registry import Source, compiled, locate, to_build
from ..system.paths import shipped
from . import asm, hot, lines, trace
from .causes import Cause, Evidence, causes
from .child import Watched
from .experiments import Found, affordable, observe
from .lines import Place

SHAPES = ("12,512,64", "12,1x2048,64")  # a prefill, and a decode step
SQUARE_SHAPES = ("4,1024,32:full",)  # for the assignment's kernels
SAMPLE_SECONDS, SAMPLE_NANOSECONDS = 0.4, 100_000
MOST_STEPS = 120_000  # at some 10 us each


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
    spec: str, shapes: Sequence[Shape], most: Ceilings, progress: Callable[[str], None]
) -> list[Profile]:
    """Of a kernel on each shape, with as many threads as the ceilings were measured with.

    Raises:
        InputError, BuildError, MissingDependency: as `locate` and `build_all`.
        KernelCrashed, KernelDeclined: the kernel cannot be watched on such a call.
    """
    source = locate(spec)
    progress("compiling")
    sampler = build_all([Target((shipped("csrc") / "tools" / "sampler.cpp",))])[0]
    library = _with_lines(source) or compiled(source)
    code = asm.listing(library) if library and asm.readable() else None
    profiles = []
    with Watched(source, library, sampler) as child:
        for shape in shapes:
            child.told = functools.partial(progress, f"watching {shape.name}")
            found = observe(child, shape, most.n_threads, square=source.loader == "cs149")
            profiles.append(_judged(child, found, most, code))
    return profiles


def _with_lines(source: Source) -> Path | None:
    """The library, with lines (-g1 changes no instruction); None for what cannot have them."""
    target = to_build(source)
    if target is None:
        return None
    try:
        return build_all([replace(target, flags=(*target.flags, "-g1"))])[0]
    except BuildError:
        if source.loader == "cs149":  # it needs torch's own headers: `compiled` knows them
            return None
        raise


def _judged(child: Watched, found: Found, most: Ceilings, code: asm.Listing | None) -> Profile:
    """Samples and steps of the shape, and what all of it means."""
    evidence = Evidence(found, most, child.lanes)
    if child.library is None or child.source.path is None:
        unseen = ["lines and instructions: it is not C++"]
        return Profile(evidence, causes(evidence), (), unseen)
    case, _ = affordable(replace(found.shape.case(1), batch=1), found.one)
    samples = child.samples(case, SAMPLE_SECONDS, SAMPLE_NANOSECONDS)
    if not samples:
        unseen = ["lines and instructions: this system has no timer that interrupts a thread"]
        return Profile(evidence, causes(evidence), (), unseen)
    addresses = sorted({pc or site - 1 for pc, site, _ in samples})
    places = lines.places(child.library, addresses, child.source.path)
    unseen = [] if lines.readable() else ["lines: there is no addr2line (binutils)"]
    if code is None:
        unseen.append("instructions: there is no objdump (binutils), or this is no x86-64")
        return Profile(evidence, causes(evidence), hot.by_line(samples, places), unseen)
    square = child.source.loader == "cs149"
    small = trace.small(case, found.one / found.shape.pairs, MOST_STEPS, square=square)
    if steps := child.steps(small, MOST_STEPS):
        counts = trace.count(steps, code, small)
        strided = functools.cache(functools.partial(trace.strided, steps))
        parts = hot.parts(samples, code, places, child.lanes, strided)
        evidence = replace(evidence, parts=parts, counts=counts, n_traced=small.n_q)
    else:
        evidence = replace(evidence, parts=hot.parts(samples, code, places, child.lanes))
        unseen.append("what is executed, by steps: this CPU cannot")
    return Profile(evidence, causes(evidence), hot.by_line(samples, places), unseen)
