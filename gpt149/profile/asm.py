"""The instructions of a library, as objdump lists them, and what the loops among them do.

x86-64 alone. A loop is what lies between the target of a jump backwards and the jump.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LINE = re.compile(r"^ *([0-9a-f]+):\t(\S.*)$")
FUNCTION = re.compile(r"^([0-9a-f]+) <(.+)>:$")
TARGET = re.compile(r"^([0-9a-f]+)\b(?: <([^>]*)>)?")
CALLED = re.compile(r"<([\w.]+?)(?:@plt)?(?:@@?[\w.]+)?>")
PREFIXES = ("lock ", "rep ", "repz ", "repnz ", "bnd ", "notrack ", "data16 ")
FMA = re.compile(r"^vfn?m(?:add|sub)\w*?(ps|pd|ss|sd)$")
PLAIN = re.compile(r"^v?(add|sub|mul|div|sqrt|max|min|rcp14|rsqrt14)(ps|pd|ss|sd)$")
DIVIDES = re.compile(r"^(v?(div|sqrt)(ps|pd|ss|sd)|i?div[lq]?)$")
FOLDS = re.compile(
    r"^v?(extractf128|extractf32x4|extractf64x4|extractf64x2|extracti128|shufps|shufpd|permilps"
    r"|permilpd|movhlps|movshdup|unpckhps|unpckhpd|haddps|haddpd|psrldq|shuff32x4|shuff64x2|alignd"
    r"|alignq)"
)
MOVES = re.compile(r"^v?(mov(?!msk|shdup|hlps|lhps)\w*|broadcast\w*|insertps|unpckl\w*|perm\w*)$")
SPILLED = 0.2  # of the instructions of a loop
STACK = re.compile(r"\(%rsp|-0x[0-9a-f]+\(%rbp\)")
FEW_SUMS = 2  # an FMA takes four cycles, and two can begin in each
APART, WAITING = 5, 4  # instructions between those of a fold, and behind it
WIDTHS = (("%zmm", 16), ("%ymm", 8), ("%xmm", 4))  # floats of a register


@dataclass(frozen=True)
class Instruction:
    """name: the mnemonic. prefix: such as "lock"; operands: AT&T order, the destination last."""

    address: int
    name: str
    operands: str
    prefix: str = ""

    @property
    def kind(self) -> str:
        """ps, ss, pd or sd: of what it calculates; "" for what does not."""
        found = FMA.match(self.name) or PLAIN.match(self.name)
        return found[found.lastindex or 0] if found else ""

    @property
    def fused(self) -> bool:
        return FMA.match(self.name) is not None

    @property
    def lanes(self) -> int:
        """Numbers that it calculates with at once."""
        kind = self.kind
        if kind in ("ss", "sd", ""):
            return 1 if kind else 0
        return self.width // (2 if kind == "pd" else 1)

    @property
    def width(self) -> int:
        """Floats that its widest register holds; 1 if it has none."""
        return next((n for word, n in WIDTHS if word in self.operands), 1)

    @property
    def stores(self) -> bool:
        reads = self.name.startswith(("lea", "cmp", "test"))
        return self.operands.endswith(")") and "," in self.operands and not reads

    @property
    def divides(self) -> bool:
        """Of floats or whole numbers: both take many times as long as a multiplication."""
        return DIVIDES.match(self.name) is not None

    @property
    def gathers(self) -> bool:
        return self.name.startswith(("vgather", "vpgather"))

    @property
    def atomic(self) -> bool:
        return self.prefix == "lock"

    @property
    def calls(self) -> str:
        """The function that it calls; "" if it calls none."""
        if not self.name.startswith("call"):
            return ""
        found = CALLED.search(self.operands)
        return found[1] if found else "?"


@dataclass(frozen=True)
class Loop:
    """begin to end: addresses of its first and its last instruction."""

    begin: int
    end: int
    body: Sequence[Instruction] = field(repr=False, compare=False)
    innermost: bool = True

    @cached_property
    def arithmetic(self) -> list[Instruction]:
        return [i for i in self.body if i.kind]

    @property
    def kind(self) -> str:
        """What limits it: double, scalar, gathers, copies, unfused, vector, or other."""
        work = self.arithmetic
        doubles = [i for i in work if i.kind in ("pd", "sd")]
        if doubles and 2 * len(doubles) >= len(work):
            return "double"
        if any(i.gathers for i in self.body):
            return "gathers"
        scalars = [i for i in work if i.kind == "ss"]
        if scalars and 2 * len(scalars) > len(work):
            return "scalar"
        if not work:
            return "copies" if self.innermost and any(map(_moves_out, self.body)) else "other"
        names = {name[1] for i in work if (name := PLAIN.match(i.name))}
        if {"mul", "add"} <= names and not any(i.fused for i in work):
            return "unfused"
        return "vector"

    @property
    def spills(self) -> bool:
        """Whether vectors go to the stack and back in it, for want of registers."""
        on_stack = [i for i in self.body if STACK.search(i.operands) and i.width > 4]
        return self.innermost and len(on_stack) >= SPILLED * len(self.body)

    @property
    def waits(self) -> bool:
        """Whether it adds to so few sums that each addition waits for the one before."""
        fused = [i for i in self.body if i.fused]
        sums = {i.operands.rpartition(",")[2] for i in fused}
        return (
            self.innermost
            and bool(fused)
            and len(sums) <= FEW_SUMS
            and not any(i.stores for i in self.body)
            and not any(_sets(i, sums) for i in self.body if not i.fused)
        )

    @property
    def width(self) -> int:
        """Floats of its widest calculation."""
        return max((i.lanes for i in self.arithmetic), default=0)


def _sets(i: Instruction, registers: set[str]) -> bool:
    return i.operands.rpartition(",")[2] in registers and not i.name.startswith(("vcmp", "cmp"))


def _moves_out(i: Instruction) -> bool:
    return i.stores and MOVES.match(i.name) is not None and "%rsp" not in i.operands


class Listing:
    """All instructions of a library, by address."""

    def __init__(self, text: str) -> None:
        """text: what `objdump -d --no-show-raw-insn` prints."""
        self.instructions: list[Instruction] = []
        self.functions: list[tuple[int, str]] = []
        for line in text.splitlines():
            if found := LINE.match(line):
                self.instructions.append(_instruction(int(found[1], 16), found[2]))
            elif found := FUNCTION.match(line):
                self.functions.append((int(found[1], 16), found[2]))
        self._addresses = [i.address for i in self.instructions]
        self._starts = [start for start, _ in self.functions]
        self.loops = self._loops()
        self.folds = self._folds()

    def at(self, address: int) -> int:
        """The index of the instruction there, or before."""
        return bisect_right(self._addresses, address) - 1

    def before(self, address: int) -> Instruction:
        """The one that ends where this one begins: the call, for a return address."""
        return self.instructions[max(0, self.at(address - 1))]

    def loop_of(self, address: int) -> Loop | None:
        """The innermost loop around it."""
        around = [loop for loop in self.loops if loop.begin <= address <= loop.end]
        return min(around, key=lambda loop: loop.end - loop.begin, default=None)

    def function_of(self, address: int) -> Loop | None:
        """The function that it is in, as if it were a loop."""
        at = self._function(address)
        if not 0 < at < len(self._starts):
            return None
        begin = self.at(self._starts[at - 1])
        body = self.instructions[begin : self.at(self._starts[at] - 1) + 1]
        return Loop(body[0].address, body[-1].address, body) if body else None

    def _function(self, address: int) -> int:
        return bisect_right(self._starts, address)

    def _loops(self) -> list[Loop]:
        spans: dict[int, int] = {}
        for i in self.instructions:
            found = TARGET.match(i.operands) if i.name.startswith("j") else None
            to = int(found[1], 16) if found else i.address
            if to < i.address and self._function(to) == self._function(i.address):
                spans[to] = max(spans.get(to, 0), i.address)
        loops = []
        for begin, end in spans.items():
            body = self.instructions[self.at(begin) : self.at(end) + 1]
            inner = not any(
                begin <= b and e <= end for b, e in spans.items() if (b, e) != (begin, end)
            )
            loops.append(Loop(begin, end, body, inner))
        return loops

    def _folds(self) -> set[int]:
        """Addresses of what adds up (or compares) the lanes of one vector, and what waits for it.

        Halves that are shuffled and added, twice or more; or lanes that are added up from the
        stack, one by one.
        """
        found: set[int] = set()
        for is_one, least in ((self._halves, 2), (self._from_stack, 4)):
            run: list[int] = []
            for at in [n for n in range(len(self.instructions)) if is_one(n)]:
                if run and at - run[-1] > APART:
                    found |= self._around(run, least)
                    run = []
                run.append(at)
            found |= self._around(run, least)
        return found

    def _around(self, run: Sequence[int], least: int) -> set[int]:
        if len(run) < least:
            return set()
        return {i.address for i in self.instructions[run[0] : run[-1] + 1 + WAITING]}

    def _halves(self, at: int) -> bool:
        ahead = self.instructions[at + 1 : at + 4]
        return FOLDS.match(self.instructions[at].name) is not None and any(
            PLAIN.match(i.name) for i in ahead
        )

    def _from_stack(self, at: int) -> bool:
        i = self.instructions[at]
        return i.name in ("vaddss", "addss") and ("(%rsp)" in i.operands or "(%rbp)" in i.operands)


def _instruction(address: int, text: str) -> Instruction:
    prefix = next((p for p in PREFIXES if text.startswith(p)), "")
    name, _, operands = text.removeprefix(prefix).partition(" ")
    return Instruction(address, name, operands.split("#")[0].strip(), prefix.strip())


def readable() -> bool:
    """Whether this machine's instructions are the ones that this file knows."""
    return platform.machine() in ("x86_64", "AMD64")


def listing(library: Path) -> Listing | None:
    """The library's; None where there is no objdump, or it fails."""
    tool = shutil.which("objdump")
    if tool is None:
        return None
    command = [tool, "-d", "--no-show-raw-insn", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return Listing(done.stdout) if done.returncode == 0 else None
