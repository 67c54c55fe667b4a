"""A submission through the parts of the assignment: right or wrong, why, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..check.cases import SEED
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
from .parts import (
    ACCESS,
    HIDDEN,
    PARTS,
    CaseFile,
    Part,
    beyond,
    cases,
    listed_for,
    timing_case,
)
from .rubric import Rubric, judged_speed
from .source import Text
from .timing import REPEATS, Timing, time_in_turn
from .why import cause_of, explained, note, only_zeros

ALLOWANCE = 0.015  # seconds behind the reference, for full credit
SANITIZERS = "address,undefined"


@dataclass(frozen=True)
class Settings:
    """n: tokens of the timed call, among those judged. br, bc: tiles of part 4. timeout: seconds
    a call. case: one case alone, by name. seed: another draws other cases, see `check.seeded`.
    sanitize: run under the sanitizers in any case. rubric: what the parts are worth.
    cases: asked in the place of the usual ones. hidden_seed: cases drawn by it are asked besides,
    and hidden from students until grades are published, as are those that the file calls so.
    """

    n: int = 1024
    br: int = 256
    bc: int = 256
    threads: int = 8
    timeout: float = 20.0
    case: str | None = None
    seed: int = SEED
    sanitize: bool = False
    rubric: Rubric = field(default_factory=Rubric)
    cases: CaseFile | None = None
    hidden_seed: int | None = None

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
        file = f" --cases {in_shell(self.cases.path)}" if self.cases else ""
        return file + "".join(
            f" {flag} {getattr(self, name)}"
            for name, flag in names.items()
            if getattr(self, name) != getattr(usual, name)
        )


@dataclass(frozen=True)
class Result:
    """What became of one thing that earns points.

    status: right, wrong, not implemented, does not compile. cause: a short name where wrong.
    report: for people, several lines. notes: what is not wrong and worth knowing. speed: what its
    time costs it, where the rubric asks.
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
    speed: str = ""

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
    half = settings.rubric.terms[ACCESS].points / len(ACCESSORS)
    parts = [part for part in PARTS if part.name in wanted]
    try:
        if not path.is_file():
            raise InputError(f"there is no file {path}.")
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
        worth = {name: half for name in ACCESSORS if ACCESS in wanted}
        worth |= {asked.name: asked.points for part in parts for asked in _asked(part, settings)}
        nothing = [Result(name, 0, most, status) for name, most in worth.items()]
        return Submission(str(path), nothing, str(e), time.perf_counter() - start)
    text, memo, judged = Text(path), Memo(), list[Result]()
    accessors = list[AccessResult]()
    if ACCESS in wanted:
        progress(ACCESS)
        accessors = judge_access(library, text, settings.timeout)
    for part in parts:
        for asked in _asked(part, settings):
            try:
                judged.append(judge_part(path, part, asked, memo, progress))
            except BuildError as e:
                judged.append(Result(asked.name, 0, asked.points, "does not load", "", str(e)))
    if any(result.status != "right" for result in judged):
        spoilt = accessors or judge_access(library, text, settings.timeout)
        judged = [_linked(result, spoilt, text) for result in judged]
    results = [*(_of_accessor(access, half) for access in accessors), *judged]
    return Submission(str(path), results, "", time.perf_counter() - start)


@dataclass(frozen=True)
class Asked:
    """A part with the cases that the settings draw. name: the result's. hidden: from students."""

    name: str
    points: float
    settings: Settings
    hidden: bool = False


def _asked(part: Part, settings: Settings) -> list[Asked]:
    """What students see, and behind it what is hidden from them, if anything is."""
    terms, file = settings.rubric.terms[part.name], settings.cases
    listed = [one for one in file.listed if part.name in one.parts] if file else []
    behind = tuple(one for one in listed if one.hidden)
    if settings.case is not None or (not behind and settings.hidden_seed is None):
        return [Asked(part.name, terms.points, settings)]
    seed = settings.seed if settings.hidden_seed is None else settings.hidden_seed
    shown, hidden = replace(settings, hidden_seed=None), replace(settings, seed=seed)
    if file and behind:
        seen = tuple(one for one in file.listed if not one.hidden)
        shown = replace(shown, cases=replace(file, listed=seen))
        hidden = replace(hidden, cases=replace(file, listed=behind))
    return [
        Asked(part.name, terms.points * (1 - terms.hidden), shown),
        Asked(part.name + HIDDEN, terms.points * terms.hidden, hidden, hidden=True),
    ]


def _of_accessor(access: AccessResult, most: float) -> Result:
    points = most if access.right else 0
    cause = "" if access.right else access.status
    return Result(access.name, points, most, access.status, cause, access.sentence)


def _linked(result: Result, accessors: Sequence[AccessResult], text: Text) -> Result:
    """A part, if its values are wrong, with a word on each wrong accessor that it uses."""
    if result.status not in ("wrong", "not implemented"):
        return result
    function = NAMES.get(result.name.removesuffix(HIDDEN), "")
    notes = [
        f"it uses {access.name}, which is {access.status}: {access.sentence}. Mend that first"
        for access in accessors
        if not access.right and access.spoils and text.uses(function, access.name)
    ]
    return replace(result, notes=(*notes, *result.notes))


def judge_part(
    path: Path, part: Part, asked: Asked, memo: Memo, progress: Callable[[str], None]
) -> Result:
    """Right or wrong as the assignment defines it, and the reference's times beside its own.

    memo: see `check`.

    Raises:
        InputError: there is no case of the name in the settings.
        BuildError: the module does not load.
    """
    settings = asked.settings
    n, br, bc, threads, seed = (
        settings.n, settings.br, settings.bc, settings.threads, settings.seed
    )  # fmt: skip
    if settings.cases:
        chosen = [one.case for one in listed_for(part, settings.cases, br, bc, seed)]
    else:
        chosen = cases(part, n, br, bc, threads, seed)
    if settings.case is not None:
        chosen = [case for case in chosen if case.name == settings.case]
        if not chosen:
            raise InputError(f"there is no case '{settings.case}' in {part.name}.")
    terms = settings.rubric.terms[part.name]
    extra = seeded(beyond(part, br, bc, threads), seed)
    if terms.beyond and settings.case is None:
        chosen += extra
    spec = f"{path}:{part.name}"

    def say(step: str) -> None:
        progress(f"{asked.name}: {step}")

    notes: tuple[str, ...] = ()
    try:
        sanitizers = SANITIZERS if settings.sanitize else None
        report = check(
            spec, chosen, timeout=settings.timeout, sanitizers=sanitizers, memo=memo, progress=say
        )
    except CannotSanitize as e:
        notes = (f"not run under the sanitizers: {e}",)
        report = check(spec, chosen, timeout=settings.timeout, memo=memo, progress=say)
    if report.right and settings.case is None and not (terms.beyond or asked.hidden):
        tried = check(spec, extra, timeout=settings.timeout, memo=memo, explained=False)
        noted = [note(o) for o in tried.observations]
        if None in noted:
            report = check(spec, extra, timeout=settings.timeout, memo=memo, progress=say)
        notes += tuple(dict.fromkeys(text for text in noted if text))
    if report.right:
        sizes = [case.n_q for case in chosen]
        text = f"{len(chosen)} cases, N = {min(sizes)} to {max(sizes)}"
        result = Result(asked.name, asked.points, asked.points, "right", "", text, notes)
    else:
        say("looking for the cause")
        result = _wrong(spec, path, part, report, asked)
    if not asked.hidden and (report.right or (result.points and terms.speed)):
        say("timing")
        result = _timed(result, spec, part, settings)
    return result


def _timed(result: Result, spec: str, part: Part, settings: Settings) -> Result:
    """With the reference's times beside its own, and what they are worth."""
    limits = settings.rubric.terms[part.name].speed
    case = timing_case(settings.n, settings.br, settings.bc, settings.threads)
    rounds = settings.rubric.rounds if limits else REPEATS
    student, reference = time_in_turn((spec, part.reference), case, settings.timeout, rounds)
    result = replace(result, student=student, reference=reference)
    if not limits:
        return result
    speed = judged_speed(limits, *(t.walls if t else () for t in (student, reference)))
    return replace(result, points=result.points * speed.share, speed=speed.sentence)


def _wrong(spec: str, path: Path, part: Part, report: Report, asked: Asked) -> Result:
    settings = asked.settings
    terms = settings.rubric.terms[part.name]
    if only_zeros(report) and settings.case is None:
        text = "it returns the zeros that it was given"
        return Result(asked.name, 0, asked.points, "not implemented", "zeros", text)
    right = sum(o.passed for o in report.observations)
    share = right / (len(report.observations) + len(report.left_out))
    points = asked.points * (0 if report.fault else terms.share_of(share))
    report = explained(spec, report, settings.timeout)
    rerun = f"gpt149 lab {in_shell(path)} {part.name}{settings.flags} --case"
    text = as_text(spec, report, rerun=rerun)
    return Result(asked.name, points, asked.points, "wrong", cause_of(report), text)
