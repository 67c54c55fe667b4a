"""What a pickle would cost, found out before anything unpickles it; nothing is executed here."""

from __future__ import annotations

import pickletools
from typing import IO

DEEPEST = 16  # tuples in tuples: torch's tensors have three
MARK = pickletools.markobject


def check_cost(file: IO[bytes]) -> None:
    """Go through the next pickle of a file, to its end.

    Hashing a tuple takes as long as its parts together, and one whose halves are both the tuple
    before takes twice as long as that: 250 bytes can hash for ever. A memo is an array as long as
    its largest index.

    Raises:
        ValueError: it nests tuples too deep, has a memo larger than itself, or is damaged.
    """
    stack: list[int | None] = []  # how deep each value nests tuples; None is a mark
    memo: dict[int, int] = {}
    for opcode, arg, position in pickletools.genops(file):
        name = opcode.name
        if name == "MEMOIZE" or name.endswith("PUT"):
            index = len(memo) if name == "MEMOIZE" else int(arg or 0)
            if not 0 <= index <= (position or 0):  # each takes two bytes or more
                raise ValueError(f"memo index {index}")
            memo[index] = _top(stack)
            continue
        taken = _take(stack, opcode)
        if name == "GET" or name.endswith("BINGET"):
            stack.append(memo.get(int(arg or 0), 0))
            continue
        deep = max(taken, default=0) + name.startswith("TUPLE")
        if deep > DEEPEST:
            raise ValueError(f"tuples in tuples, more than {DEEPEST} deep")
        stack += [None if what is MARK else deep for what in opcode.stack_after]


def _top(stack: list[int | None]) -> int:
    return (stack[-1] or 0) if stack else 0


def _take(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What the opcode takes off the stack."""
    taken: list[int] = []
    wanted = opcode.stack_before
    if MARK in wanted:
        while stack and (value := stack.pop()) is not None:
            taken.append(value)
        wanted = wanted[: wanted.index(MARK)]
    for _ in wanted:
        if not stack:
            raise ValueError("its stack is empty")
        taken.append(stack.pop() or 0)
    return taken
