"""One kernel through a list of cases: build, observe, diagnose."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..build import build
from ..errors import InputError
from ..kernels import CONTRACT_BUILTINS, resolve
from ..loaders.contract import ContractKernel
from ..paths import shipped
from .arena import Arena
from .cases import Case
from .diagnosis import Finding, diagnose
from .isolation import Child
from .observe import Bench, Observation
from .sanitize import MemoryFault, sanitize
from .worker import NO_LIBRARY

MOST_HANGS = 2  # cases that run into the time limit before the rest is left out


@dataclass(frozen=True)
class Report:
    """What became of a kernel. `left_out`: names of cases that were not run."""

    kernel: str
    observations: list[Observation]
    findings: list[Finding]
    noise: str
    seconds: float
    left_out: tuple[str, ...] = ()
    fault: MemoryFault | None = None  # what the sanitizers found

    @property
    def failed(self) -> list[Observation]:
        return [o for o in self.observations if not o.passed]

    @property
    def right(self) -> bool:
        return not self.failed and not self.left_out and self.fault is None


def check(
    spec: str,
    cases: Sequence[Case],
    *,
    timeout: float = 5.0,
    sanitizers: str | None = None,
) -> Report:
    """Run the cases, each call in a child process with a time limit in seconds.

    sanitizers: run them under these too, such as "address,undefined" (see `sanitize`).

    Raises:
        InputError: no such kernel.
        BuildError, MissingDependency: it cannot be compiled.
    """
    start = time.perf_counter()
    source, name = _source(spec)
    if source is None and sanitizers:
        raise InputError(f"'{spec}' has no C++ source, so --sanitize cannot build it.")
    fault = sanitize(source, name, cases, sanitizers, timeout) if source and sanitizers else None
    library = str(build(source)) if source else NO_LIBRARY
    observations: list[Observation] = []
    arena = Arena(list(cases))
    try:
        with Child(library, name, arena, timeout) as child:
            bench = Bench(child, arena)
            hangs = 0
            for case in cases:
                if hangs == MOST_HANGS:
                    break
                observations.append(bench.observe(case))
                hangs += observations[-1].answer.outcome in ("hang", "memory")
            findings = diagnose(observations, bench)
            noise = bench.noise()
    finally:
        arena.close()
    left_out = tuple(case.name for case in cases[len(observations) :])
    seconds = time.perf_counter() - start
    return Report(name, observations, findings, noise, seconds, left_out, fault)


def _source(spec: str) -> tuple[Path | None, str]:
    """The source file that a kernel's spec means (None: torch, reference), and its name in it."""
    kernel = resolve(spec)
    if not isinstance(kernel, ContractKernel):
        return None, kernel.name
    if spec in CONTRACT_BUILTINS:
        return shipped("csrc") / f"{spec}.cpp", kernel.name
    whole = Path(spec)
    return whole if whole.is_file() else Path(spec.rpartition(":")[0]), kernel.name
