"""What the assignment asks: its parts, their points, and the cases that decide each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..check.cases import SEED, Case, square
from ..check.listed import as_case, tables
from ..check.seeded import seeded
from ..errors import InputError
from ..system.tables import Table

ACCESS = "4Daccess"
HIDDEN = " hidden"  # behind a part's name: what its hidden cases decide
ACCESS_POINTS = 1.5  # for fourDimRead, and for fourDimWrite
LISTED_KEYS = (
    "name", "n", "head_dim", "batch", "n_head", "br", "bc", "n_threads", "inputs", "calls", "seed",
    "parts", "hidden",
)  # fmt: skip
TEMPLATE_HEADS, TEMPLATE_DIM = 4, 32  # the shape of cs149gpt's own tests, with batch 1


@dataclass(frozen=True)
class Listed:
    """An instructor's own case. parts: which are asked it. hidden: from students, until published.

    tiled: whether it says what br and bc are; else they are as on the command line.
    """

    case: Case
    parts: tuple[str, ...]
    hidden: bool = False
    tiled: bool = False


@dataclass(frozen=True)
class CaseFile:
    """What `--cases` names, and what is in it."""

    path: Path
    listed: tuple[Listed, ...]


@dataclass(frozen=True)
class Part:
    """name: as on the command line. reference: our kernel of the same idea."""

    name: str
    title: str
    label: str
    points: float
    reference: str


PARTS = (
    Part("part1", "Part 1 Test: Naive Unfused Attention", "NAIVE ATTENTION", 10, "naive"),
    Part(
        "part2",
        "Part 2 Test: Unfused Attention with Blocked Matmul",
        "BLOCKED MATMUL + UNFUSED SOFTMAX",
        20,
        "blocked",
    ),
    Part("part3", "Part 3 Test: Fused Attention", "FUSED ATTENTION", 25, "fused"),
    Part("part4", "Part 4 Test: Flash Attention", "FLASH ATTENTION", 35, "flash"),
)
NAMES = ("all", ACCESS, "part0", *(part.name for part in PARTS))


def cases(part: Part, n: int, br: int, bc: int, n_threads: int, seed: int = SEED) -> list[Case]:
    """Unmasked, unscaled and square, as the assignment has it; head_dim a multiple of 8.

    With one thread, three and n_threads: what is shared between rows of a thread shows with few,
    what threads share with many, and where there is work for them.
    """
    many = n_threads
    asked = [
        _square("n1", 1),
        _square("n16", 16),
        _square("n17", 17),
        _square("n33", 33),
        _square("n64-one-head", 64, n_head=1),
        _square("n100", 100, d=16, n_threads=3),
        replace(_square("batches", 40, n_head=3, n_threads=3), batch=2),
        _square("n129", 129, n_threads=many),
        _square("n300-one-head", 300, n_head=1, d=16, n_threads=3),
        _square("changed", 48, calls="changed", n_threads=many),
        _square("again", 48, calls="again", n_threads=many),
        # A maximum that is the block's, not the running one, overflows here.
        _square("falling", 320, d=16, inputs="falling-far", n_threads=many),
        _square("rising", 320, d=16, inputs="rising-far"),
        _square("n1000", 1000, n_head=TEMPLATE_HEADS, n_threads=many),
    ]
    if n not in [case.n_q for case in asked]:
        asked.append(_square(f"n{n}", n, n_head=TEMPLATE_HEADS, n_threads=many))
    if part.name != "part4":
        return _seeded(asked, n, seed)
    asked = [replace(case, br=br, bc=bc) for case in asked]
    falling, rising = (case for case in asked if case.name in ("falling", "rising"))
    asked += [
        _square("br7-bc13", 100, d=16, br=7, bc=13),
        replace(_square("br16-bc64", 64, br=16, bc=64, n_threads=3), batch=2),
        _square("br64-bc16", 130, d=16, br=64, bc=16, n_threads=many),
        _square("br128-bc512", 1000, br=128, bc=512, n_threads=many),
        _square("tiles-larger-than-n", 45, br=64, bc=100),
        replace(falling, name="falling-br16-bc16", br=16, bc=16),
        replace(rising, name="rising-br16-bc16", br=16, bc=16),
    ]
    return _seeded(asked, n, seed)


def _seeded(asked: list[Case], n: int, seed: int) -> list[Case]:
    """Of the length that was asked for by name, the numbers alone are others."""
    return [
        replace(old, seed=seed) if old.n_q == n else new
        for old, new in zip(asked, seeded(asked, seed), strict=True)
    ]


def read_listed(path: Path) -> CaseFile:
    """The cases of a file (docs/lab.md), unmasked, unscaled and square.

    Raises:
        InputError: the file cannot be read, or has a case that cannot be asked.
    """
    usual = _square("", 0)
    return CaseFile(path, tuple(_listed(table, usual) for table in tables(path, LISTED_KEYS)))


def _listed(table: Table, usual: Case) -> Listed:
    every = [part.name for part in PARTS]
    parts = table.list("parts") if "parts" in table.values else every
    table.must(bool(parts) and all(part in every for part in parts), f"parts are of {every}")
    tiled = bool({"br", "bc"} & set(table.values))
    case = as_case(table, usual)
    return Listed(case, tuple(parts), table.flag("hidden"), tiled)


def listed_for(part: Part, file: CaseFile, br: int, bc: int, seed: int) -> list[Listed]:
    """Those of the file's cases that the part is asked; tiles are part 4's alone.

    Raises:
        InputError: there are none.
    """
    found = list[Listed]()
    drawn = seeded([one.case for one in file.listed], seed)
    for one, case in zip(file.listed, drawn, strict=True):
        if part.name != "part4":
            case = replace(case, br=0, bc=0)
        elif not one.tiled:
            case = replace(case, br=br, bc=bc)
        if part.name in one.parts:
            found.append(replace(one, case=case))
    if not found:
        raise InputError(f"{file.path} has no case for {part.name}. Ask for another part alone.")
    return found


def beyond(part: Part, br: int, bc: int, n_threads: int) -> list[Case]:
    """What the assignment does not ask: scores beyond what exp of them bears, an uneven d."""
    tiles = {"br": br, "bc": bc} if part.name == "part4" else {}
    return [
        _square("large", 65, inputs="large", n_threads=n_threads, **tiles),
        _square("low", 65, inputs="low", n_threads=n_threads, **tiles),
        _square("d20", 33, d=20, n_threads=n_threads, **tiles),
    ]


def timing_case(n: int, br: int, bc: int, n_threads: int) -> Case:
    """The shape that cs149gpt times."""
    case = _square("timing", n, n_head=TEMPLATE_HEADS)
    return replace(case, br=br, bc=bc, n_threads=n_threads)


def _square(name: str, n: int, *, n_head: int = 2, d: int = TEMPLATE_DIM, **more: object) -> Case:
    return square(name, n, n_head=n_head, d=d, causal=False, scale=1.0, **more)
