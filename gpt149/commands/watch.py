"""`gpt149 check --watch`: a verdict at every save."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..bench.ceilings import kept_ceilings
from ..bench.shapes import parse
from ..check.cases import Case, speed_case
from ..check.observe import Memo
from ..check.report import as_text
from ..check.run import Report, Speed, check
from ..errors import Gpt149Error, InputError
from ..kernels.build import made_of
from ..kernels.registry import compiled, is_file_spec, locate
from ..profile.report import first_cause
from ..profile.run import profile
from ..system.terminal import status
from ..system.threads import checked_threads
from ..system.words import duration, in_shell
from .log import Log
from .terminal import show

POLL_SECONDS = 0.05
SPEED, SQUARE_SPEED = "12,256,64", "12,256,64:full"  # what is timed: see `speed_case`

Stamps = dict[Path, tuple[int, int, int] | None]


def run(
    spec: str,
    cases: Sequence[Case],
    timeout: float,
    sanitizers: str | None,
    flags: str,
    *,
    logged: bool,
) -> None:
    """Judge the kernel now and whenever its file, or a header of its own, changes. Never returns.

    flags: of a rerun line, besides the case. logged: keep a work log beside the file.

    Raises:
        InputError: there is no such kernel to begin with, or its log cannot be kept.
    """
    path = locate(spec).path
    if logged and not is_file_spec(spec):
        raise InputError("--log is for a kernel's file of yours.")
    log = Log(path) if logged and path else None
    files = [path] if path else []
    before: Speed | None = None
    memo: Memo = {}
    while True:
        stamps = _stamps(files)
        start = time.perf_counter()
        judged: Report | Gpt149Error
        try:
            source = locate(spec)
            library = compiled(source)
            if log:
                log.look()
            files = _own(path, library)
            stamps |= _stamps([file for file in files if file not in stamps])
            timed = speed_case(checked_threads(None), square_only=source.one_by_one(causal=True))
            with status() as progress:
                report = check(
                    spec, cases, timeout=timeout, sanitizers=sanitizers, timed=timed, memo=memo,
                    progress=progress,
                )  # fmt: skip
            text = as_text(spec, report, flags=flags)
            if report.speed and before:
                text += f"\n  Before: {duration(before.seconds)}."
            before = report.speed or before
            judged = report
        except Gpt149Error as e:
            text = f"FAIL {spec}: {e}"
            judged = e
        if log:
            log.add(judged)  # before somebody reads the verdict, and saves again
        took = duration(time.perf_counter() - start)
        show(f"{time.strftime('%H:%M:%S')} {text}\n  {took} from save to verdict.")
        if isinstance(judged, Report) and judged.right:
            show(f"  {_why_slow(spec, partial(_changed, stamps))}")
        show("")
        while not _changed(stamps):
            time.sleep(POLL_SECONDS)


class _Saved(Exception):
    """The file was saved: nobody waits for an answer about the one before."""


def _why_slow(spec: str, saved: Callable[[], bool]) -> str:
    """The first cause of slowness, or why it is not looked for, in a line. Ends when saved."""
    n_threads, more = checked_threads(None), f"gpt149 profile {in_shell(spec)}"

    def unless_saved(_step: str) -> None:
        if saved():
            raise _Saved

    try:
        source = locate(spec)
        most = kept_ceilings(n_threads)
        if most is None:
            return f"Why not faster: {more} says it, once it has measured this machine."
        if source.path is None or source.loader == "python":
            return f"Why not faster: {more} says what can be seen from outside."
        shape = parse(SQUARE_SPEED if source.one_by_one(causal=True) else SPEED)
        found = profile(spec, [shape], most, unless_saved, brief=True)[0]
    except _Saved:
        return "Saved: judging again."
    except Gpt149Error as e:
        return f"Why not faster: {e}"
    return f"{first_cause(found)} All of it: {more}"


def _own(path: Path | None, library: Path | None) -> list[Path]:
    """The kernel's file and the headers that it includes."""
    included = made_of(library) if library else []
    return [*([path] if path else []), *included]


def _changed(stamps: Stamps) -> bool:
    return _stamps(list(stamps)) != stamps


def _stamps(files: Sequence[Path]) -> Stamps:
    """What changes when a file is saved, in place or by renaming another to it."""
    stamps: Stamps = {}
    for file in files:
        try:
            status = file.stat()
            stamps[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamps[file] = None
    return stamps
