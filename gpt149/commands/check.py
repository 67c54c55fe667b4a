"""`gpt149 check`: is this kernel right, and if not, why."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from ..check import elsewhere, score
from ..check.cases import Case, full, quick
from ..check.listed import read_cases
from ..check.report import as_json, as_text
from ..check.run import Report, check, unheard
from ..check.sanitize import check_sanitizers
from ..check.seeded import seeded
from ..errors import BuildError, InputError, SeveralKernels
from ..kernels.registry import locate
from ..system.limits import check_jobs, check_timeout
from ..system.paths import shipped
from ..system.terminal import status
from ..system.words import in_shell
from . import watch as watch_command
from .terminal import hint, show

Judged = tuple[str, Report | BuildError]  # a spec, and what became of it
Kernel = TypeVar("Kernel")
Result = TypeVar("Result")
NEXT = """Next:
  gpt149 generate "ROMEO:" -a {kernel}   text through it
  gpt149 bench {kernel}                  how fast it is"""


def run(
    specs: Sequence[str],
    *,
    every: bool,
    case: str | None,
    seed: int,
    case_file: Path | None,
    timeout: float,
    jobs: int,
    sanitizers: str | None,
    watch: bool,
    logged: bool,
    as_json_output: bool,
) -> int:
    """Check each kernel; returns 0 if all are right, else 1.

    Raises:
        Gpt149Error: a kernel or case that cannot be asked about (a compile error counts as wrong).
    """
    check_timeout(timeout)
    check_jobs(jobs)
    if sanitizers is not None:
        check_sanitizers(sanitizers)
    cases = seeded(_chosen(case, case_file, every=every), seed)
    flags = f" --cases {in_shell(case_file)}" if case_file else ""
    if logged and not watch:
        raise InputError("--log is for --watch, which sees every save.")
    if watch:
        if len(specs) != 1 or as_json_output:
            raise InputError("--watch is for one kernel, and not with --json.")
        watch_command.run(specs[0], cases, timeout, sanitizers, flags, logged=logged)
    judge = partial(_judge, cases=cases, timeout=timeout, sanitizers=sanitizers)
    if len(specs) == 1:
        with status() as progress:
            judged = judge(specs[0], progress=progress)
    else:
        judged = [one for some in _side_by_side(judge, specs, jobs) for one in some]
    specs, reports = [spec for spec, _ in judged], [report for _, report in judged]
    if as_json_output:
        entries = [
            {"kernel": s, "right": False, "compile_error": str(r)}
            if isinstance(r, BuildError)
            else as_json(s, r)
            for s, r in zip(specs, reports, strict=True)
        ]
        click.echo(json.dumps({"kernels": entries}))
    else:
        for spec, report in zip(specs, reports, strict=True):
            compile_error = isinstance(report, BuildError)
            show(f"FAIL {report}" if compile_error else as_text(spec, report, flags=flags))  # type: ignore[arg-type]
            if case_file and isinstance(report, Report) and (left := _unclaimed(cases, report)):
                show(f"  Not asked, since it does not claim what they need: {', '.join(left)}.")
        if len(specs) > 1:
            _table(specs, reports)
    right = all(isinstance(r, Report) and r.right for r in reports)
    if right and len(specs) == 1 and not as_json_output:
        hint(NEXT.format(kernel=in_shell(specs[0])))
    return 0 if right else 1


def run_under(
    launcher: str,
    specs: Sequence[str],
    *,
    every: bool,
    case: str | None,
    case_file: Path | None,
    seed: int,
    timeout: float,
    as_json_output: bool,
) -> int:
    """Judge each kernel on the machine that CXX compiles for; 0 if all are right, else 1.

    launcher: what runs that machine's programs here, as the shell reads it.

    Raises:
        Gpt149Error: see `elsewhere.judge_under`, or no case is small enough.
    """
    check_timeout(timeout)
    cases = elsewhere.small(seeded(_chosen(case, case_file, every=every), seed))
    if not cases:
        asked = f"'{case}'" if case is not None else f"every case of {case_file}"
        raise InputError(f"{asked} is too large, or no single call, for --under. Try without it.")
    try:
        words = shlex.split(launcher)
    except ValueError as e:
        raise InputError(f"--under is {launcher!r}, which is no command line: {e}.") from e
    outcomes = {}
    for spec in specs:
        with status() as progress:
            progress(f"{spec}: {len(cases)} cases under {words[0] if words else 'nothing'}")
            outcomes[spec] = elsewhere.judge_under(locate(spec), cases, words, 60 * timeout)
    if as_json_output:
        entries = [{"kernel": s, "right": o.passed, **asdict(o)} for s, o in outcomes.items()]
        click.echo(json.dumps({"kernels": entries}))
    else:
        for spec, outcome in outcomes.items():
            show(elsewhere.as_text(spec, outcome))
    return 0 if all(o.passed for o in outcomes.values()) else 1


def _unclaimed(cases: Sequence[Case], report: Report) -> list[str]:
    """Of a list of one's own, what the kernel was not asked: our own list has something for all."""
    known = {o.case.name for o in report.observations}
    known |= {*report.left_out, *report.too_long, *report.unmapped}
    return [case.name for case in cases if case.name not in known]


def _side_by_side(
    judge: Callable[[Kernel], Result], specs: Sequence[Kernel], jobs: int
) -> list[Result]:
    pool = ThreadPoolExecutor(jobs)
    try:
        # In turn, Ctrl-C reaches the thread that judges.
        judged = map(judge, specs) if jobs == 1 else pool.map(judge, specs)
        with click.progressbar(judged, len(specs), "checking", file=sys.stderr) as bar:
            return list(bar)
    finally:
        pool.shutdown(cancel_futures=True)


def _table(specs: Sequence[str], reports: Sequence[Report | BuildError]) -> None:
    """One line a kernel: verdict, failed cases, seconds, cause."""
    width = max(map(len, specs))
    click.echo(f"\n{'kernel':<{width}}  verdict  failed  seconds  cause")
    for spec, report in zip(specs, reports, strict=True):
        if isinstance(report, BuildError):
            show(f"{spec:<{width}}  FAIL                      does not compile")
            continue
        verdict = "PASS" if report.right else "FAIL"
        cause = report.findings[0].cause if report.findings else ""
        cause = report.fault.what if report.fault else cause
        failed = f"{len(report.failed)}/{len(report.observations)}"
        show(f"{spec:<{width}}  {verdict}  {failed:>9}  {report.seconds:>7.1f}  {cause}")


def score_known(
    folder: Path | None, *, every: bool, seed: int, timeout: float, jobs: int, as_json_output: bool
) -> int:
    """Judge kernels of which it is known what is wrong; 0 if all were caught, with no alarm.

    folder: it has an index; None: those of the checkout's tests.

    Raises:
        InputError: a flag's value cannot be used, or there are no such kernels.
    """
    check_timeout(timeout)
    check_jobs(jobs)
    tests = shipped("csrc").parent / "tests"
    own = (tests / "wrong_kernels", tests / "right_kernels")
    entries = score.from_index(folder) if folder else score.from_comments(*own)
    judge = partial(score.score, cases=seeded(full() if every else quick(), seed), timeout=timeout)
    scores = _side_by_side(judge, entries, jobs)
    if as_json_output:
        click.echo(json.dumps(score.as_json(scores)))
    else:
        show(score.as_text(scores))
    return 0 if all(s.caught or (s.kind == "right" and not s.alarm) for s in scores) else 1


def _judge(
    spec: str,
    cases: list[Case],
    timeout: float,
    sanitizers: str | None,
    progress: Callable[[str], None] = unheard,
) -> list[Judged]:
    """The report on a spec; where its file holds several kernels, on each."""
    try:
        report = check(spec, cases, timeout=timeout, sanitizers=sanitizers, progress=progress)
        return [(spec, report)]
    except BuildError as e:
        return [(spec, e)]
    except SeveralKernels as e:
        every = [f"{spec}:{name}" for name in e.names]
        return [one for s in every for one in _judge(s, cases, timeout, sanitizers, progress)]


def _chosen(name: str | None, file: Path | None, *, every: bool) -> list[Case]:
    if file and every:
        raise InputError("--cases FILE stands in the place of our cases: leave --full out.")
    few = read_cases(file) if file else quick()
    if name is None:
        return full() if every else few
    named = [c for c in few if c.name == name]
    if not named and not file:  # the others take a second to generate
        named = [c for c in full() if c.name == name]
    if not named:
        whose = f"Those of {file}" if file else "The quick ones"
        raise InputError(f"no case '{name}'. {whose}: {', '.join(c.name for c in few)}.")
    return named
