"""What the assignment asks: its parts, their points, and the cases that decide each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..check.cases import Case, square

ACCESS = "4Daccess"
ACCESS_POINTS = 1.5  # for fourDimRead, and for fourDimWrite
TEMPLATE_HEADS, TEMPLATE_DIM = 4, 32  # the shape of cs149gpt's own tests, with batch 1
OVERFLOW = "large"  # the case with logits of some hundreds, which the assignment does not ask


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


def cases(part: Part, n: int, br: int, bc: int, n_threads: int) -> list[Case]:
    """Unmasked, unscaled and square, as the assignment has it; head_dim a multiple of 8."""
    asked = [
        _square("n1", 1),
        _square("n16", 16),
        _square("n17", 17),
        _square("n33", 33),
        _square("n64-one-head", 64, n_head=1),
        _square("n100", 100, d=16),
        replace(_square("batches", 40, n_head=3), batch=2),
        _square("n129", 129),
        _square("n300-one-head", 300, n_head=1, d=16),
        _square("changed", 48, calls="changed"),
        _square("again", 48, calls="again"),
        _square("n1000", 1000, n_head=TEMPLATE_HEADS),
    ]
    if n not in [case.n_q for case in asked]:
        asked.append(_square(f"n{n}", n, n_head=TEMPLATE_HEADS))
    if part.name == "part4":
        asked += [
            _square("br7-bc13", 100, d=16, br=7, bc=13),
            _square("br16-bc64", 64, br=16, bc=64),
            _square("br64-bc16", 130, d=16, br=64, bc=16),
            _square("br128-bc512", 1000, br=128, bc=512),
            _square("tiles-larger-than-n", 45, br=64, bc=100),
        ]
        asked = [case if case.br else replace(case, br=br, bc=bc) for case in asked]
    return [replace(case, n_threads=n_threads) for case in asked]


def overflow_case(n_threads: int) -> Case:
    """The case that tells whether the row's maximum is subtracted."""
    return replace(_square(OVERFLOW, 65, inputs="large"), n_threads=n_threads)


def timing_case(n: int, br: int, bc: int, n_threads: int) -> Case:
    """The shape that cs149gpt times."""
    case = _square("timing", n, n_head=TEMPLATE_HEADS)
    return replace(case, br=br, bc=bc, n_threads=n_threads)


def _square(name: str, n: int, *, n_head: int = 2, d: int = TEMPLATE_DIM, **more: object) -> Case:
    return square(name, n, n_head=n_head, d=d, causal=False, scale=1.0, **more)
