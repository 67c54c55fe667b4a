"""The kernel under the compiler's sanitizers: memory errors, with the line of its own source.

Each case runs in a process of csrc/tools/runner.cpp, where every tensor and the workspace are
allocations of exactly their size. AddressSanitizer and UndefinedBehaviorSanitizer end it at the
first error.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BuildError, CannotSanitize, InputError
from ..kernels.build import Target, build_all, under_sanitizers
from ..kernels.languages import no_sanitizers
from ..kernels.registry import Source, to_build
from ..system.talker import THROWN
from ..system.words import one_line
from .arena import place
from .calls import Command, filled
from .cases import Case
from .machine import CASE, empty

KNOWN = ("address", "undefined")
MOST_WORK = 30_000_000  # sanitizers slow a kernel down; longer cases show nothing more
NOT_THERE, DECLINED = 3, 4  # exit status: no kernel of that name; it declines
OPTIONS = {"ASAN_OPTIONS": "detect_leaks=0:handle_abort=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
ASAN = re.compile(r"ERROR: \w+Sanitizer: ([^\n]+)")
FRAME = re.compile(r"#\d+ \w+ in ")
IN_ACCESSOR = re.compile(FRAME.pattern + r"[^(]*\b(two|four)Dim(Read|Write)\b")  # of cs149gpt
PLACE = re.compile(r"(/[^\s(:]*):(\d+)")
UBSAN = re.compile(r"([^\s:]+:\d+):\d+: runtime error: ([^\n]+)")


@dataclass(frozen=True)
class MemoryFault:
    """What a sanitizer said. place: `mine.cpp:33`, in the kernel's own source where it is there."""

    case: Case
    what: str
    place: str
    output: str


def check_sanitizers(names: str) -> None:
    """Raise InputError for a list that names another, or none."""
    unknown = [name for name in names.split(",") if name not in KNOWN]
    if unknown:
        raise InputError(f"unknown sanitizer '{unknown[0]}'. Known: {', '.join(KNOWN)}.")


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
        [runner] = build_all([under_sanitizers(target, sanitizers)])
    except BuildError as e:
        raise CannotSanitize(
            f"{source} cannot be compiled with -fsanitize={sanitizers}. {e}"
        ) from e
    for case in cases:
        whole = case.layout != "far"  # the runner's tensors are allocations
        too_long = most_work is not None and case.work > most_work
        if case.calls != "once" or too_long or not whole:
            continue
        try:
            done = subprocess.run(
                [str(runner), kernel],
                input=_input(case),
                capture_output=True,
                timeout=10 * timeout,
                env={**os.environ, **OPTIONS},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return MemoryFault(case, f"it did not return within {10 * timeout:g} s", "", "")
        if done.returncode not in (0, NOT_THERE, DECLINED):
            output = done.stderr.decode(errors="replace")
            fault = MemoryFault(case, *_read(output, target.name), output)
            if not fault.place and source != empty():
                _must_run(sanitizers, timeout)
            return fault
    return None


def must_have_sanitizers(source: Source) -> Target:
    """What is built with them.

    Raises:
        CannotSanitize: there is nothing to build, or its language has no sanitizers.
    """
    target = to_build(source)
    if target is None:
        what = "is built already: check its source" if source.loader == "library" else "is Python"
        raise CannotSanitize(f"'{source}' {what}, so --sanitize cannot build it.")
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


def _input(case: Case) -> bytes:
    """The struct, then each input that the case has, from its first to its last element.

    Pointers to what it has are not NULL, and nothing else.
    """
    placed = place(case)
    shape: Command = {
        "shape": case.shape,
        "tensors": {n: (1, p.strides) for n, p in placed.items()},
    }
    args = filled(0, shape)
    parts = [ctypes.string_at(ctypes.byref(args), ctypes.sizeof(args))]
    tensors = {**dict(zip(("q", "k", "v"), case.draw(), strict=True)), **case.vectors()}
    for name, tensor in tensors.items():
        memory = np.full(placed[name].start + placed[name].span, np.nan, np.float32)
        placed[name].put(tensor, memory)
        parts.append(memory[placed[name].start :].tobytes())
    return b"".join(parts)


def _read(output: str, source: Path) -> tuple[str, str]:
    """What the sanitizer says, and the first line of the kernel's own source in it."""
    place_ = _place(output, source)
    if said := UBSAN.search(output):
        return said[2], place_ or Path(said[1]).name
    if thrown := THROWN.search(output):
        return one_line(f"throws {thrown[1]}"), place_
    if said := ASAN.search(output):
        what = re.split(r" on (?:unknown )?address", said[1])[0]
        access = re.search(r"(READ|WRITE) of size \d+", output)
        return f"{what}, {access[0]}" if access else what, place_
    return "the process ended: " + (output.strip().splitlines() or ["no message"])[-1], place_


def _place(output: str, source: Path) -> str:
    """The author's own line in what a sanitizer says, first of the file, else of a header beside.

    What an accessor does wrongly, it is told to do where it is called.
    """
    folder = source.resolve().parent
    found = list[tuple[bool, bool, str]]()
    for line in output.splitlines():
        last = not FRAME.search(line) or bool(IN_ACCESSOR.search(line))
        for name, number in PLACE.findall(line):
            path = Path(name).resolve()
            if path.parent == folder:
                found.append((last, path.name != source.name, f"{path.name}:{number}"))
    return min(found, key=lambda one: one[:2])[2] if found else ""
