"""One kernel through a list of cases: build, observe, diagnose."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import BuildError, InputError
from ..kernels.abi import IN_WORDS, Feature
from ..kernels.loaders.python import is_triton
from ..kernels.registry import Source, compiled, locate
from ..kernels.signatures import Signature
from ..system.threads import one_blas_thread
from .arena import Arena
from .behaviour import findings as findings_of
from .cases import Case
from .crashes import FAKED, by_changing, by_fault, located, misused
from .diagnosis import diagnose
from .finding import Finding, once
from .isolation import DEFAULT_TEAM, Child
from .machine import must_build, must_run
from .observe import Bench, Memo, Observation
from .rereading import reread
from .sanitize import MemoryFault, must_have_sanitizers, sanitize
from .symptoms import CANCELLATION
from .unclaimed import unclaimed

INTERPRETED = Finding(
    "interpreted",
    "it ran in Triton's interpreter, on the CPU: this judges its logic; times say nothing of a GPU",
    "",
    0.0,
)
MOST_INTERPRETED = 60_000  # pairs of a query and a key, of a case that an interpreter is asked
INTERPRETED_PATIENCE = 8  # times the time limit
ENDED = ("crash", "exit", "hang")
MOST_HANGS = 2  # cases that run into the time limit, or do not load, before the rest is left out
MOST_CRASHES = 16  # the same of crashes: each costs the start of another child
# Of what calls leave behind: what may be the cause of which findings.
EXPLAINS = {
    "returns_early": None,  # of any
    "n_threads_ignored": ("workspace_overrun", "crash", "race", "threads_split", "unknown"),
}
MOST_DOUBTFUL = 30_000_000  # of a case that runs under the sanitizers, though nothing crashed
MOST_LOOPED = 2**18  # pairs of a query and a key, of a case for loops over tiles in Python
MOST_SQUARE_WORK = 600_000_000  # multiplications of a case for which it is called once a query


@dataclass(frozen=True)
class Speed:
    """The median time of a case's call, in seconds."""

    case: Case
    seconds: float

    @property
    def gflop_s(self) -> float:
        """10^9 multiplications and additions a second; what the mask hides is not counted."""
        return self.case.flops * self.case.batch / self.seconds / 1e9


@dataclass(frozen=True)
class Report:
    """What became of a kernel.

    left_out: names of cases that were not run, since others hung or crashed, or it does not load.
    too_long: of those that a kernel that is square or interpreted would need minutes for, and was
    not asked. unmapped: of
    those whose memory lies too far apart for this machine. notes: what is not wrong and worth
    knowing. where: the line of the author's source that misuses memory, or how to find it.
    """

    kernel: str
    observations: list[Observation]
    findings: list[Finding]
    noise: str
    seconds: float
    left_out: tuple[str, ...] = ()
    too_long: tuple[str, ...] = ()
    unmapped: tuple[str, ...] = ()
    fault: MemoryFault | None = None  # what the sanitizers found
    notes: tuple[Finding, ...] = ()
    where: str = ""
    speed: Speed | None = None  # of a right kernel, if asked for
    claimed: Feature = field(default=Feature(0))

    @property
    def failed(self) -> list[Observation]:
        return [o for o in self.observations if not o.passed]

    @property
    def excused(self) -> bool:
        """Whether what is beyond the bound is explained, and no bug: see `symptoms.by_size`."""
        first = self.findings[:1]
        return bool(first) and first[0].cause == CANCELLATION and all(o.wrong for o in self.failed)

    @property
    def right(self) -> bool:
        well = not self.failed or self.excused
        return well and not self.left_out and self.fault is None


def unheard(_step: str) -> None:
    """The progress of what nobody waits for."""


def check(
    spec: str | Source,
    cases: Sequence[Case],
    *,
    timeout: float = 5.0,
    sanitizers: str | None = None,
    timed: Case | None = None,
    memo: Memo | None = None,
    explained: bool = True,
    progress: Callable[[str], None] = unheard,
) -> Report:
    """Run the cases, each call in a child process with a time limit in seconds.

    sanitizers: run them under these too, such as "address,undefined" (see `sanitize`). timed: a
    case whose time is taken if all is right. memo: the float64 answers of earlier checks, which
    are not worked out again; more are added. explained: say why it is wrong, and what else it does;
    that takes time. progress: is told what comes next.

    Raises:
        InputError: no such kernel, or it can be asked none of the cases.
        BuildError, MissingDependency: it cannot be compiled.
        MachineFault: nor can any other, or no other runs.
    """
    start = time.perf_counter()
    source = spec if isinstance(spec, Source) else locate(spec)
    if sanitizers:
        must_have_sanitizers(source)
    interpreted = source.path is not None and is_triton(source.path)
    if interpreted:
        timeout, timed = INTERPRETED_PATIENCE * timeout, None

    def can_be_asked(case: Case) -> bool:
        if interpreted:
            return _interpretable(case)
        return affordable(source, case)

    asked = [case for case in cases if can_be_asked(case)]
    too_long = tuple(case.name for case in cases if case not in asked and not case.needs)
    if not asked:
        raise InputError(
            f"'{spec}' is not asked any of these cases: it takes minutes for {', '.join(too_long)}."
        )
    try:
        library = compiled(source)
    except BuildError:
        must_build()
        raise
    observations: list[Observation] = []
    arena, unmapped = _arena([*asked, timed] if timed else asked)
    asked = [case for case in asked if case not in unmapped]
    try:
        with (
            Child(source, library, arena, timeout, DEFAULT_TEAM) as child,
            one_blas_thread(),
        ):
            try:
                claimed = child.features
            except BuildError:
                must_run(timeout)
                raise
            asked = [case for case in asked if not case.needs & ~claimed]
            if not asked:
                raise InputError(_unclaimed(str(spec), cases[0], claimed))
            bench = Bench(child, arena, memo)
            hangs = crashes = 0
            for i, case in enumerate(asked, 1):
                if hangs == MOST_HANGS or crashes == MOST_CRASHES:
                    break
                progress(f"case {i} of {len(asked)}, {case.name}")
                try:
                    observations.append(bench.observe(case))
                except BuildError:
                    must_run(timeout)
                    raise
                answer = observations[-1].answer
                hangs += answer.phase == "load" or answer.outcome in ("hang", "memory")
                crashes += answer.outcome in ("crash", "exit")
            if all(o.answer.outcome in ENDED for o in observations):
                must_run(timeout)
            failed = [o for o in observations if not o.passed]
            right = not failed
            seen = _seen(observations, bench, child) if child.native and explained else []
            if not source.is_told_threads:
                seen = [f for f in seen if f.cause != "n_threads_ignored"]
            findings = list[Finding]()
            if failed and explained:
                progress("looking for the cause")
                findings = diagnose(observations, bench)
                findings = [f for f in seen if _explains(f, findings)] + findings
                findings = [*by_changing(failed, bench, child), *findings]
            named = {f.cause for f in findings}
            notes = tuple(f for f in once(seen) if f.cause not in named)
            if explained:
                notes += tuple(unclaimed(source, library, observations, cases, bench, child))
            if interpreted:
                notes = (*notes, INTERPRETED)
            if source.signature:
                notes = (*notes, _read_as(source.signature))
            if timed and right:
                progress("timing")
            speed = Speed(timed, bench.seconds(timed)) if timed and right else None
            noise = bench.noise()
    finally:
        arena.close()
    fault, where = None, ""
    cases_of_misuse = misused(failed) or _doubtful(failed, findings)
    if cases_of_misuse and child.native and explained and not sanitizers:
        progress("looking for the line")
        found, where = located(source, child.kernel, cases_of_misuse, timeout)
        where = where if found or misused(failed) else ""
        known = {f.cause for f in findings}  # by an experiment: that says more
        told = [f for f in by_fault(found, findings) if f.cause not in known] if found else []
        findings = [*told, *findings]
    if sanitizers:
        progress("under the sanitizers")
        fault = sanitize(source, child.kernel, asked, sanitizers, timeout)
    if failed and explained and source.signature:
        progress("reading its parameters otherwise")
        first, note = reread(source, source.signature, observations, timeout, check)
        notes, findings = (*note, *notes), first or findings
    left_out = tuple(case.name for case in asked[len(observations) :])
    seconds = time.perf_counter() - start
    return Report(
        child.kernel,
        observations,
        once(findings),
        noise,
        seconds,
        left_out,
        too_long,
        tuple(case.name for case in unmapped),
        fault,
        notes,
        where,
        speed,
        claimed,
    )


def _unclaimed(spec: str, case: Case, claimed: Feature) -> str:
    missing = [feature for feature in Feature if feature & case.needs & ~claimed]
    return (
        f"'{spec}' is not asked '{case.name}': it does not claim "
        f"{' and '.join(IN_WORDS[feature] for feature in missing)}. A kernel that computes it says "
        f"so by {' | '.join(f'GPT149_{feature.name}' for feature in missing)} in GPT149_KERNEL, "
        "one in Python by its parameters."
    )


def _arena(cases: Sequence[Case]) -> tuple[Arena, list[Case]]:
    """Memory for the cases, and those among them that lie too far apart for this machine."""
    far = [case for case in cases if case.layout == "far"]
    near = [case for case in cases if case.layout != "far"]
    try:
        return Arena(cases), []
    except InputError:
        if not far or not near:
            raise
        return Arena(near), far


def _seen(observations: Sequence[Observation], bench: Bench, child: Child) -> list[Finding]:
    """What calls leave behind, of a case that came back: a wrong one with threads, else the one
    with the most. Not of what lies far apart, for out is looked at as a whole.
    """
    returned = [
        o
        for o in observations
        if o.verdict is not None and not o.case.needs and o.case.layout != "far"
    ]
    if not returned:
        return []
    wrong = [o for o in returned if o.wrong and o.case.n_threads > 1]
    case = max(wrong or returned, key=lambda o: (not wrong and o.case.n_threads, -o.case.work)).case
    bench.observe(case)  # what the arena now holds
    seen = child.look(case)
    return list(findings_of(seen)) if seen else []


def _doubtful(failed: Sequence[Observation], findings: Sequence[Finding]) -> list[Case]:
    """The case that shows what memory beyond the kernel's own may have made up."""
    if not findings or findings[0].cause not in FAKED:
        return []
    shown = min(failed, key=lambda o: (o.case.name != findings[0].case, o.case.work)).case
    return [shown] if shown.work <= MOST_DOUBTFUL else []


def _explains(seen: Finding, findings: Sequence[Finding]) -> bool:
    """Whether what calls leave behind is the cause of the first finding."""
    if seen.cause not in EXPLAINS:
        return False
    effects = EXPLAINS[seen.cause]
    return effects is None or not findings or findings[0].cause in effects


def _read_as(signature: Signature) -> Finding:
    """What the judge took an author's own signature for."""
    return Finding(
        "read_as",
        f"{signature.function} is judged as: {signature.words}. If it is meant otherwise, "
        "say so in a comment such as `gpt149: causal, scale=1, axes=bnhd`",
        "",
        0.0,
    )


def _interpretable(case: Case) -> bool:
    return case.batch * case.n_head * case.n_q * case.n_kv <= MOST_INTERPRETED


def affordable(source: Source, case: Case) -> bool:
    """Whether a kernel of another signature than the contract's answers in seconds.

    What it does not know is made of larger calls, or of one for each query; classes of CS336 have
    loops in Python.
    """
    n_q, n_kv = case.n_q, case.n_kv
    if source.signature and source.signature.kind == "autograd":
        return (n_kv if case.causal and n_q > 1 else n_q) * n_kv <= MOST_LOOPED
    if source.one_by_one(case.causal):
        keys = [n_kv - i if case.causal else n_kv for i in range(n_q)]  # of each
        pairs = sum(n * (n if source.square or not case.causal else 1) for n in keys)
    elif n_q != n_kv and (source.square or (source.signature and case.causal and n_q > 1)):
        pairs = n_kv * n_kv * -(-n_q // n_kv)
    else:
        return True
    return 2 * pairs * case.batch * case.n_head * case.head_dim <= MOST_SQUARE_WORK
