"""The kernel under the compiler's sanitizers: memory errors, with the line of its own source.

Each case runs in a process of csrc/tools/runner.cpp, where every tensor and the workspace are
allocations of exactly their size. AddressSanitizer and UndefinedBehaviorSanitizer end it at the
first error, ThreadSanitizer at the first race. That one has to be told by the OpenMP runtime who
waits for whom: clang's does, through Archer (Atzeni et al.: ARCHER: effectively spotting data races
in large OpenMP applications, 2016).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import BuildError, CannotSanitize, InputError
from ..kernels.build import Target, around, build_all
from ..kernels.languages import no_sanitizers
from ..kernels.registry import Source, to_build
from ..system.talker import THROWN
from ..system.words import one_line
from .cases import Case
from .elsewhere import written
from .machine import CASE, empty

KNOWN = ("address", "undefined", "thread")
RACES = "thread"
MOST_WORK = 30_000_000  # sanitizers slow a kernel down; longer cases show nothing more
NOT_THERE, DECLINED = 3, 4  # exit status: no kernel of that name; it declines
MOST_WATCHED = 96  # queries and keys of a call that is watched for races
REPEATS = 10  # calls that are watched: a race is seen where threads meet
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_abort=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1",
    "ARCHER_OPTIONS": "verbose=1",
}
ARCHER = b"Archer detected"
NO_ARCHER = (
    "the OpenMP runtime of this clang++ comes without Archer, so that each barrier looks like a "
    "race. Install `libomp-dev` of Debian or Ubuntu, or LLVM's own build."
)
ASAN = re.compile(r"ERROR: \w+Sanitizer: ([^\n]+)")
FRAME = re.compile(r"#\d+ \w+ in ")
IN_ACCESSOR = re.compile(FRAME.pattern + r"[^(]*\b(two|four)Dim(Read|Write)\b")  # of cs149gpt
PLACE = re.compile(r"/([^/\n]+?:\d+)(?!\d)")
RACE = re.compile(r"WARNING: ThreadSanitizer: data race[^\n]*\n(.*?)\n\n(.*?)\n\n", re.DOTALL)
ACCESS = re.compile(r"(read|write) of size", re.IGNORECASE)
UBSAN = re.compile(r"([^/\n]+?:\d+):\d+: runtime error: ([^\n]+)")


@dataclass(frozen=True)
class MemoryFault:
    """What a sanitizer said. place: `mine.cpp:33`, in the kernel's own source where it is there."""

    case: Case
    what: str
    place: str
    output: str


def check_sanitizers(names: str) -> None:
    """Raise InputError for a list that names another, or none."""
    chosen = names.split(",")
    unknown = [name for name in chosen if name not in KNOWN]
    if unknown:
        raise InputError(f"unknown sanitizer '{unknown[0]}'. Known: {', '.join(KNOWN)}.")
    if RACES in chosen and len(chosen) > 1:
        raise InputError(f"--sanitize {RACES} goes with no other: ask for the others apart.")


def sanitize(
    source: Source,
    kernel: str,
    cases: Sequence[Case],
    sanitizers: str,
    timeout: float,
    *,
    most_work: int | None = MOST_WORK,
) -> MemoryFault | None:
    """Run the cases on the source's kernel of that name until one fails; None if all are clean.

    most_work: of a case that is run; None: however long they take.

    Raises:
        InputError: sanitizers that are not known.
        CannotSanitize: it cannot be built with them.
    """
    check_sanitizers(sanitizers)
    target = must_have_sanitizers(source)
    try:
        [program] = build_all([around("runner", target, sanitizers)])
    except BuildError as e:
        raise CannotSanitize(
            f"{source} cannot be compiled with -fsanitize={sanitizers}. {e}"
        ) from e
    races = sanitizers == RACES
    for case in map(_shortened, filter(_threaded, cases)) if races else cases:
        whole = case.layout != "far"  # the runner's tensors are allocations
        too_long = most_work is not None and case.work > most_work
        if too_long or not whole or not (races or case.calls == "once"):
            continue
        try:
            done = subprocess.run(
                [str(program), kernel],
                input=written(case, repeats=REPEATS if races else 1),
                capture_output=True,
                timeout=10 * timeout,
                env={**os.environ, **OPTIONS},
                check=False,
                start_new_session=True,  # kill(0, ...) is the kernel's own end
            )
        except subprocess.TimeoutExpired:
            return MemoryFault(case, f"it did not return within {10 * timeout:g} s", "", "")
        if done.returncode not in (0, NOT_THERE, DECLINED):
            output = done.stderr.decode(errors="replace")
            if races and "libomp" in output and ARCHER not in done.stdout:
                raise CannotSanitize(NO_ARCHER)
            fault = MemoryFault(case, *_read(output, target.name), output)
            if not fault.place and source != empty():
                _must_run(sanitizers, timeout)
            return fault
    return None


def _threaded(case: Case) -> bool:
    """Whether threads can meet in it: the kernel's own, or the host's."""
    return case.calls == "heads" or (case.calls == "once" and case.n_threads > 1)


def _shortened(case: Case) -> Case:
    n_kv = min(case.n_kv, MOST_WATCHED)
    return replace(case, n_q=min(case.n_q, n_kv), n_kv=n_kv)


def must_have_sanitizers(source: Source) -> Target:
    """What is built with them.

    Raises:
        CannotSanitize: there is nothing to build, or its language has no sanitizers.
    """
    target = to_build(source)
    if target is None:
        what = "is built already: check its source" if source.loader == "library" else "is Python"
        raise CannotSanitize(f"--sanitize cannot build '{source}', which {what}.")
    if why := no_sanitizers(target.name):
        raise CannotSanitize(f"'{source}' cannot be built with sanitizers: {why}.")
    return target


def _must_run(sanitizers: str, timeout: float) -> None:
    """Raise CannotSanitize if not even the empty kernel runs under them."""
    if fault := sanitize(empty(), "empty", [CASE], sanitizers, timeout):
        raise CannotSanitize(
            f"nothing runs with -fsanitize={sanitizers} here, not even an empty kernel: "
            f"{one_line(fault.what)}. They need address space without a limit (ulimit -v)."
        )


def _read(output: str, source: Path) -> tuple[str, str]:
    """What the sanitizer says, and the first line of the kernel's own source in it."""
    place_ = _place(output, source)
    if said := UBSAN.search(output):
        return said[2], place_ or said[1]
    if race := RACE.search(output):
        place_, inner = _place(race[1], source), _innermost(race[1])
        other = _innermost(race[2])
        at = f" ({inner})" if place_ and inner != place_ else ""
        by = f" ({other})" if other != (place_ or inner) else ""
        what = f"data race: a {_access(race[1])}{at}, and another thread's {_access(race[2])}{by}"
        return what, place_ or inner
    if thrown := THROWN.search(output):
        return one_line(f"throws {thrown[1]}"), place_
    if said := ASAN.search(output):
        what = re.split(r" on (?:unknown )?address", said[1])[0]
        access = re.search(r"(READ|WRITE) of size \d+", output)
        return f"{what}, {access[0]}" if access else what, place_
    return "the process ended: " + (output.strip().splitlines() or ["no message"])[-1], place_


def _access(stack: str) -> str:
    """What a stack of ThreadSanitizer's did: `read` or `write`."""
    found = ACCESS.search(stack)
    return found[1].lower() if found else "access"


def _innermost(stack: str) -> str:
    """The line at which it did that, in whatever file."""
    found = PLACE.search(stack)
    return found[1] if found else "code without lines"


def _place(output: str, source: Path) -> str:
    """The author's own line in what a sanitizer says, first of the file, else of a header beside.

    What an accessor does wrongly, it is told to do where it is called.
    """
    source = source.resolve()
    folder = re.escape(str(source.parent))
    found = list[tuple[bool, bool, str]]()
    for line in output.splitlines():
        last = not FRAME.search(line) or bool(IN_ACCESSOR.search(line))
        for place in re.findall(folder + PLACE.pattern, line):
            found.append((last, not place.startswith(f"{source.name}:"), place))
    return min(found, key=lambda one: one[:2])[2] if found else ""
