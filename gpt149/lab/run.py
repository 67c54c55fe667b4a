"""A submission through the parts of the assignment: right or wrong, why, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..check.arena import Arena
from ..check.cases import SEED
from ..check.isolation import Answer, Child
from ..check.machine import must_build
from ..check.observe import Memo
from ..check.report import as_text
from ..check.run import Report, check, unheard
from ..check.seeded import seeded
from ..errors import (
    BuildError,
    CannotSanitize,
    Gpt149Error,
    InputError,
    MachineFault,
    MissingDependency,
)
from ..kernels.loaders.cs149 import NAMES
from ..kernels.registry import compiled, locate
from ..system.limits import MOST_TOKENS, check_range, check_timeout
from ..system.threads import MOST_THREADS
from ..system.words import in_shell
from .access import NAMES as ACCESSORS
from .access import AccessResult, judge_access
from .parts import ACCESS, ACCESS_POINTS, PARTS, Part, beyond, cases, timing_case
from .source import Text
from .why import cause_of, explained, note, only_zeros

ALLOWANCE = 0.015  # seconds behind the reference, for full credit
REPEATS = 3
SANITIZERS = "address,undefined"


@dataclass(frozen=True)
class Settings:
    """n: tokens of the timed call, among those judged. br, bc: tiles of part 4. timeout: seconds
    a call. case: one case alone, by name. seed: another draws other cases, see `check.seeded`.
    sanitize: run under the sanitizers in any case.
    """

    n: int = 1024
    br: int = 256
    bc: int = 256
    threads: int = 8
    timeout: float = 20.0
    case: str | None = None
    seed: int = SEED
    sanitize: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for a value that means nothing."""
        check_range("-N", self.n, 1, MOST_TOKENS)
        check_range("-br", self.br, 1, MOST_TOKENS)
        check_range("-bc", self.bc, 1, MOST_TOKENS)
        check_range("--threads", self.threads, 1, MOST_THREADS)
        check_timeout(self.timeout)

    @property
    def flags(self) -> str:
        """What draws the same cases again: the options that are not the usual ones."""
        usual = Settings()
        names = {"n": "-N", "br": "-br", "bc": "-bc", "threads": "--threads", "seed": "--seed"}
        return "".join(
            f" {flag} {getattr(self, name)}"
            for name, flag in names.items()
            if getattr(self, name) != getattr(usual, name)
        )


@dataclass(frozen=True)
class Timing:
    """Medians of a few calls of the template's shape, in seconds, and bytes.

    memory: temporaries and output. growth: by how much the process's peak RSS grew.
    """

    cpu: float
    wall: float
    memory: int
    growth: int


@dataclass(frozen=True)
class Result:
    """What became of one thing that earns points.

    status: right, wrong, not implemented, does not compile. cause: a short name where wrong.
    report: for people, several lines. notes: what is not wrong and worth knowing.
    """

    name: str
    points: float
    most: float
    status: str
    cause: str = ""
    report: str = ""
    notes: tuple[str, ...] = ()
    student: Timing | None = None
    reference: Timing | None = None

    @property
    def slow(self) -> bool:
        """Further behind the reference than the assignment allows (part 4 is not timed)."""
        if not self.student or not self.reference or self.name == PARTS[-1].name:
            return False
        return self.student.wall > self.reference.wall + ALLOWANCE


@dataclass(frozen=True)
class Submission:
    """A file and what became of its parts. error: why nothing could be judged."""

    path: str
    results: list[Result]
    error: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def right(self) -> bool:
        return not self.error and all(r.status == "right" for r in self.results)

    @property
    def points(self) -> float:
        return sum(result.points for result in self.results)


def judge_submission(
    path: Path,
    wanted: Sequence[str],
    settings: Settings,
    progress: Callable[[str], None] = unheard,
) -> Submission:
    """Judge the parts of that name, of PARTS and ACCESS. Never raises for what the file is.

    progress: is told what comes next.

    Raises:
        MachineFault, MissingDependency: nothing can be judged here.
    """
    start = time.perf_counter()
    parts = [part for part in PARTS if part.name in wanted]
    try:
        source = locate(path)
        if source.loader != "cs149":
            raise InputError(f"{path} is not a module of cs149gpt: it has no PYBIND11_MODULE.")
        library = compiled(source)
        assert library is not None
    except MachineFault:
        raise
    except Gpt149Error as e:
        if isinstance(e, (BuildError, MissingDependency)):
            must_build()
        status = "does not compile" if isinstance(e, BuildError) else "cannot be judged"
        nothing = [Result(p.name, 0, p.points, status) for p in parts]
        if ACCESS in wanted:
            none = [Result(name, 0, ACCESS_POINTS, status) for name in ACCESSORS]
            nothing = none + nothing
        return Submission(str(path), nothing, str(e), time.perf_counter() - start)
    text, memo, judged = Text(path), Memo(), list[Result]()
    accessors = list[AccessResult]()
    if ACCESS in wanted:
        progress(ACCESS)
        accessors = judge_access(library, text, settings.timeout)
    for part in parts:
        try:
            judged.append(judge_part(path, part, settings, memo, progress))
        except BuildError as e:
            judged.append(Result(part.name, 0, part.points, "does not load", "", str(e)))
    if any(result.status != "right" for result in judged):
        spoilt = accessors or judge_access(library, text, settings.timeout)
        judged = [_linked(result, spoilt, text) for result in judged]
    results = [*map(_of_accessor, accessors), *judged]
    return Submission(str(path), results, "", time.perf_counter() - start)


def _of_accessor(access: AccessResult) -> Result:
    points = ACCESS_POINTS if access.right else 0
    cause = "" if access.right else access.status
    return Result(access.name, points, ACCESS_POINTS, access.status, cause, access.sentence)


def _linked(result: Result, accessors: Sequence[AccessResult], text: Text) -> Result:
    """A part, if its values are wrong, with a word on each wrong accessor that it uses."""
    if result.status not in ("wrong", "not implemented"):
        return result
    function = NAMES.get(result.name, "")
    notes = [
        f"it uses {access.name}, which is {access.status}: {access.sentence}. Mend that first"
        for access in accessors
        if not access.right and access.spoils and text.uses(function, access.name)
    ]
    return replace(result, notes=(*notes, *result.notes))


def judge_part(
    path: Path, part: Part, settings: Settings, memo: Memo, progress: Callable[[str], None]
) -> Result:
    """Right or wrong as the assignment defines it, and the reference's times beside its own.

    memo: see `check`.

    Raises:
        InputError: there is no case of the name in the settings.
        BuildError: the module does not load.
    """
    asked = cases(part, settings.n, settings.br, settings.bc, settings.threads, settings.seed)
    if settings.case is not None:
        asked = [case for case in asked if case.name == settings.case]
        if not asked:
            raise InputError(f"there is no case '{settings.case}' in {part.name}.")
    spec = f"{path}:{part.name}"

    def say(step: str) -> None:
        progress(f"{part.name}: {step}")

    notes: tuple[str, ...] = ()
    try:
        sanitizers = SANITIZERS if settings.sanitize else None
        report = check(
            spec, asked, timeout=settings.timeout, sanitizers=sanitizers, memo=memo, progress=say
        )
    except CannotSanitize as e:
        notes = (f"not run under the sanitizers: {e}",)
        report = check(spec, asked, timeout=settings.timeout, memo=memo, progress=say)
    if report.right and settings.case is None:
        extra = seeded(beyond(part, settings.br, settings.bc, settings.threads), settings.seed)
        tried = check(spec, extra, timeout=settings.timeout, memo=memo, explained=False)
        noted = [note(o) for o in tried.observations]
        if None in noted:
            report = check(spec, extra, timeout=settings.timeout, memo=memo, progress=say)
        notes += tuple(dict.fromkeys(text for text in noted if text))
    if not report.right:
        say("looking for the cause")
        return _wrong(spec, path, part, report, settings)
    say("timing")
    student, reference = time_both(spec, part, settings)
    n = [case.n_q for case in asked]
    text = f"{len(asked)} cases, N = {min(n)} to {max(n)}"
    return Result(part.name, part.points, part.points, "right", "", text, notes, student, reference)


def _wrong(spec: str, path: Path, part: Part, report: Report, settings: Settings) -> Result:
    if only_zeros(report) and settings.case is None:
        text = "it returns the zeros that it was given"
        return Result(part.name, 0, part.points, "not implemented", "zeros", text)
    report = explained(spec, report, settings.timeout)
    rerun = f"gpt149 lab {in_shell(path)} {part.name}{settings.flags} --case"
    text = as_text(spec, report, rerun=rerun)
    return Result(part.name, 0, part.points, "wrong", cause_of(report), text)


def time_both(spec: str, part: Part, settings: Settings) -> list[Timing | None]:
    """The submission's and our kernel's times; None for what does not return."""
    return _time((spec, part.reference), settings)


def time_torch(settings: Settings) -> Timing | None:
    """Part 0: torch's own attention, on the same shape."""
    return _time(("torch",), settings)[0]


def _time(specs: Sequence[str], settings: Settings) -> list[Timing | None]:
    """The kernels in turn, REPEATS times, each in a process of its own."""
    case = timing_case(settings.n, settings.br, settings.bc, settings.threads)
    sources = [locate(spec) for spec in specs]
    q, k, v = case.draw()
    arena = Arena([case])
    with ExitStack() as stack:
        stack.callback(arena.close)
        children = [
            stack.enter_context(Child(source, compiled(source), arena, settings.timeout))
            for source in sources
        ]
        answers: list[list[Answer]] = [[] for _ in children]
        for _ in range(REPEATS):
            for child, kept in zip(children, answers, strict=True):
                arena.fill(case, {"q": q, "k": k, "v": v})
                kept.append(child.run(case))
    return [_timing(kept, q.nbytes) for kept in answers]


def _timing(answers: Sequence[Answer], out_bytes: int) -> Timing | None:
    if any(answer.outcome != "ok" for answer in answers):
        return None
    return Timing(
        cpu=statistics.median(a.cpu_seconds for a in answers),
        wall=statistics.median(a.seconds for a in answers),
        memory=answers[0].workspace_bytes + out_bytes,
        growth=max(a.peak_growth for a in answers),
    )
