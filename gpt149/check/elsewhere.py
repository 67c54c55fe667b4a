"""A kernel judged where there is no Python: on another machine, or on an emulator of one.

csrc/tools/judge.cpp reads the cases, with what they should give, and tells what became of each, for
several numbers of threads.
"""

from __future__ import annotations

import ctypes
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError, MachineFault
from ..kernels import abi
from ..kernels.build import around, build_all
from ..kernels.registry import Source, to_build
from .arena import place
from .calls import Command, filled
from .cases import Case
from .judge import SLACK, expect

MOST_WORK = 3_000_000  # of a case: emulators take a hundred times as long

MOST_SHOWN = 5  # lines of a kind


class Head(ctypes.Structure):
    """`Head` of csrc/tools/call.h, before each case."""

    _fields_ = (
        ("name", ctypes.c_char * 48),
        ("needs", ctypes.c_uint32),
        ("at_once", ctypes.c_int32),
        ("repeats", ctypes.c_int32),
        ("unused", ctypes.c_int32),
        ("args", abi.Args),
    )


@dataclass(frozen=True)
class Outcome:
    """What became of the cases.

    isa: what the kernel was built for. cases_right: their names. declined, wrong: of the others,
    each with what the judge says. bits: the same of those whose bits depend on the number of
    threads. died: how it ended, if not by itself.
    """

    isa: str = ""
    cases_right: list[str] = field(default_factory=list)
    declined: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    bits: list[str] = field(default_factory=list)
    died: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.cases_right) and not (self.wrong or self.died)


def small(cases: Sequence[Case]) -> list[Case]:
    """Those that it can be asked: single calls, of tensors that an allocation holds."""
    return [c for c in cases if c.calls == "once" and c.layout != "far" and c.work <= MOST_WORK]


def judge_under(
    source: Source, cases: Sequence[Case], launcher: Sequence[str], timeout: float
) -> Outcome:
    """Build a kernel as CXX and GPT149_MARCH say, and judge it through a launcher.

    launcher: what runs a program for that machine, such as qemu-aarch64; nothing: it runs here.
    timeout: seconds for all cases.

    Raises:
        InputError: it has no C++ source, or there is no such launcher.
        BuildError, MissingDependency: it cannot be compiled.
        MachineFault: nothing that it ran said anything.
    """
    target = to_build(source)
    if target is None or source.loader != "contract":
        raise InputError(f"{source} has no C++ source of the contract, so it is run here alone.")
    [program] = build_all([around("judge", target)], elsewhere=True)
    name = source.name or target.name.stem
    asked = small(cases)
    try:
        done = subprocess.run(
            [*launcher, str(program), name],
            input=b"".join(written(case, judged=True) for case in asked),
            capture_output=True, timeout=timeout, check=False,
            start_new_session=True,  # kill(0, ...) is the kernel's own end
        )  # fmt: skip
    except OSError as e:
        raise InputError(f"cannot run {launcher[0] if launcher else program}: {e.strerror}.") from e
    except subprocess.TimeoutExpired as e:
        return _read(e.stdout or b"", f"it did not end within {timeout:g} s")
    said = done.stderr.decode(errors="replace").strip()
    if not done.stdout:
        raise MachineFault(
            f"{shlex.join([*launcher, '...'])} ends with status {done.returncode} before the "
            f"kernel is asked anything: {said or 'no message'}."
        )
    last = said.splitlines()[-1:] or ["no message"]
    return _read(done.stdout, f"status {done.returncode}, {last[0]}" if done.returncode else "")


def as_text(spec: str, outcome: Outcome) -> str:
    """The verdict in a line, and what is wrong in others."""
    n = len(outcome.cases_right) + len(outcome.wrong)
    if outcome.passed:
        lines = [f"PASS {spec} ({outcome.isa}): {n} of {n} cases, with several numbers of threads."]
    elif outcome.wrong:
        lines = [f"FAIL {spec} ({outcome.isa}): {len(outcome.wrong)} of {n} cases."]
    else:
        lines = [f"FAIL {spec} ({outcome.isa}): no case is right."]
    lines += [f"  {wrong}" for wrong in outcome.wrong[:MOST_SHOWN]]
    lines += [f"  It ends by itself: {outcome.died}."] * bool(outcome.died)
    lines += [f"  It declines {declined}" for declined in outcome.declined[:MOST_SHOWN]]
    lines += [f"  Note: other bits in {bits}." for bits in outcome.bits[:MOST_SHOWN]]
    return "\n".join(lines)


def _read(told: bytes, died: str) -> Outcome:
    """From the judge's lines: `isa NAME`, and of each case, `case`, then `right` or the like."""
    outcome, last = Outcome(), ""
    isa = ""
    for line in told.decode(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "isa":
            isa = rest
        elif word == "case":
            last = rest
        elif word == "right":
            outcome.cases_right.append(rest)
        elif word in ("declined", "wrong", "bits"):
            getattr(outcome, word).append(rest)
    died = f"{died}, in '{last}'" if died else ""
    return Outcome(isa, outcome.cases_right, outcome.declined, outcome.wrong, outcome.bits, died)


def written(case: Case, *, judged: bool = False, repeats: int = 1) -> bytes:
    """A case as runner and judge read it: head and inputs; if it is judged, what it should give.

    repeats: how often the call is made, of a case that is not judged.

    Pointers to what it has are not NULL, and nothing else is.
    """
    placed = place(case)
    shape: Command = {
        "shape": case.shape,
        "tensors": {n: (1, p.strides) for n, p in placed.items()},
    }
    at_once = case.calls == "heads"
    args = filled(0, shape)
    head = Head(case.name.encode()[:47], int(case.needs), at_once, repeats, 0, args)
    parts = [bytes(head)]
    q, k, v = case.draw()
    for name, tensor in {"q": q, "k": k, "v": v, **case.vectors()}.items():
        memory = np.full(placed[name].start + placed[name].span, np.nan, np.float32)
        placed[name].put(tensor, memory)
        parts.append(memory[placed[name].start :].tobytes())
    if judged:
        expected = expect(case, q, k, v)
        lse = [expected.lse, expected.lse_rounding] if case.lse else [np.empty(0)] * 2
        numbers = (
            (expected.want, lse[0]),
            (expected.tolerance, SLACK * lse[1]),
            (SLACK * expected.common,),
        )
        parts += [np.concatenate([n.ravel() for n in some]).tobytes() for some in numbers]
    return b"".join(parts)
