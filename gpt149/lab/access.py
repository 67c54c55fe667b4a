"""fourDimRead and fourDimWrite at every index of a small tensor with four distinct extents."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..system.child import module_command, serve
from ..system.talker import MEMORY_LIMIT, Ending, Talker
from .source import Text

EXTENTS = (2, 3, 4, 5)
STRIDES = (60, 20, 5, 1)  # elements, of a tensor of these extents whose last index runs fastest
INDICES = list(product(*map(range, EXTENTS)))
MEMORY = 120 * 64  # floats: an index that is computed wrongly still falls inside
HELD = [i + 1.5 for i in range(MEMORY)]  # no two alike, and no whole numbers
WRITTEN = 0.25
WORKER = "gpt149.lab.access"
MOST_SHOWN = 6  # elements that a sentence names
NAMES = ("fourDimRead", "fourDimWrite")


@dataclass(frozen=True)
class AccessResult:
    """name: the function. status: right, wrong or not implemented.

    spoils: whether what calls it gets wrong elements; with parameters of its own, it does not.
    """

    name: str
    status: str
    sentence: str
    spoils: bool = True

    @property
    def right(self) -> bool:
        return self.status == "right"


def judge_access(library: Path, text: Text, timeout: float) -> list[AccessResult]:
    """Call both in a child process, and say what is wrong with what they do."""
    return [
        _missing(name, text) if touched is None else _judge(name, touched)
        for name, touched in ((name, _ask(library, name, timeout)) for name in NAMES)
    ]


def _missing(name: str, text: Text) -> AccessResult:
    sentence = f"there is no {name} with the assignment's parameters"
    if (parameters := text.parameters(name)) is not None:
        sentence += f"; this one is {name}({parameters})"
    return AccessResult(name, "wrong", sentence, spoils=False)


def _ask(library: Path, name: str, timeout: float) -> Any:
    """A list over INDICES of the elements touched (from 0) at each index, or a sentence.

    None where there is no such function.
    """
    with Talker(module_command(WORKER, str(library), name), MEMORY_LIMIT) as child:
        answer = child.ask({}, timeout)
    return answer.detail if isinstance(answer, Ending) else answer["touched"]


def _judge(name: str, touched: Any) -> AccessResult:
    verb = "reads" if name == "fourDimRead" else "writes"
    if isinstance(touched, str):
        return AccessResult(name, "wrong", touched)
    wanted = [[sum(i * s for i, s in zip(index, STRIDES, strict=True))] for index in INDICES]
    if touched == wanted:
        shape = " x ".join(map(str, EXTENTS))
        return AccessResult(name, "right", f"every index of a {shape} tensor")
    if not any(touched):
        done = "returns 0" if name == "fourDimRead" else "writes nothing"
        return AccessResult(name, "not implemented", f"it {done} at every index")
    at = next(i for i, (got, want) in enumerate(zip(touched, wanted, strict=True)) if got != want)
    index = ", ".join(map(str, INDICES[at]))
    sentence = (
        f"at index ({index}) it {verb} {_elements(touched[at])}, and must touch {wanted[at][0]}"
    )
    formula = _formula(touched)
    if formula:
        sentence += (
            f": it computes {formula} where sizeX, sizeY, sizeZ = {EXTENTS[1]}, {EXTENTS[2]}, "
            f"{EXTENTS[3]} need {_spelled(STRIDES)}"
        )
    return AccessResult(name, "wrong", sentence)


def _elements(touched: Sequence[int]) -> str:
    """Which, the first few where they are many."""
    if len(touched) == MEMORY:
        return "every element that there is, and more"
    if not touched:
        return "no element"
    few = ", ".join(map(str, touched[:MOST_SHOWN]))
    return f"element {few}" + (f", ... ({len(touched)})" if len(touched) > MOST_SHOWN else "")


def _formula(touched: Sequence[Sequence[int]]) -> str:
    """The strides that explain every index, spelled out; empty if none do."""
    if any(len(elements) != 1 for elements in touched):
        return ""
    element = {index: elements[0] for index, elements in zip(INDICES, touched, strict=True)}
    origin = element[0, 0, 0, 0]
    steps = [element[tuple(int(i == axis) for i in range(4))] - origin for axis in range(4)]
    fits = all(
        found == origin + sum(i * s for i, s in zip(index, steps, strict=True))
        for index, found in element.items()
    )
    return _spelled(steps) + (f" + {origin}" if origin else "") if fits else ""


def _spelled(strides: Sequence[int]) -> str:
    return " + ".join(f"{s}*{x}" for s, x in zip(strides, "xyzb", strict=True))


def main() -> None:
    """In the child. Arguments: the library, the function, the descriptor for the answer."""
    path, name, answers = sys.argv[1:]
    serve(int(answers), lambda: ({}, lambda _: {"touched": _touched(path, name)}))


def _touched(path: str, name: str) -> Any:
    """See `_ask`."""
    try:
        library = ctypes.CDLL(path)
    except OSError as e:
        return f"the module does not load: {e}"
    extents = (ctypes.c_int * 4)(*EXTENTS)
    touched = []
    for index in INDICES:
        memory = (ctypes.c_float * MEMORY)(*HELD)
        about = memory, ctypes.c_int64(MEMORY), (ctypes.c_int * 4)(*index), extents
        at = f"at index ({', '.join(map(str, index))})"
        if name == "fourDimRead":
            value = ctypes.c_float()
            there = library.cs149_read(*about, ctypes.byref(value))
            if value.value and value.value not in HELD:
                return f"{at} it returns {value.value:g}, which the tensor does not hold"
            touched.append([HELD.index(value.value)] if value.value else [])
        else:
            there = library.cs149_write(*about, ctypes.c_float(WRITTEN))
            changed = [i for i, value in enumerate(memory) if value != HELD[i]]
            odd = [i for i in changed if memory[i] != WRITTEN]
            if odd and len(changed) == 1:
                held, left = HELD[odd[0]], memory[odd[0]]
                how = ": it adds to what is there" if left == held + WRITTEN else ""
                return f"{at} it makes {left:g} of {held:g}, and must write {WRITTEN:g}{how}"
            touched.append(changed)
        if not there:
            return None
    return touched
