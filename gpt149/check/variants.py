"""Cases of attention's variants, for kernels that claim them: each by itself, any two, all.

A kernel is asked only what it claims, so a case needs no more than it is named for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any

from .covering import Properties, Row, cover
from .pairs import PROPERTIES, SEED, allowed, as_call

# The fields of a case that ask for a variant, and values to try.
VALUES: dict[str, Properties] = {
    "window": {"window": (1, 5, 33, 100, 2000)},
    "softcap": {"softcap": (2.0, 30.0)},
    "alibi": {"alibi": (True,)},
    "sinks": {"sinks": (True,)},
    "kv_begin": {"kv_begin": (True,)},
    "head_dim_v": {"head_dim_v": (1, 24, 64, 129)},
    "lse": {"lse": (True,)},
    "bfloat16": {"half_kv": (True,)},
    "bfloat16-q": {"half": (True,)},
}
ELSEWHERE = ("bfloat16",)  # `pairs.calls` has it by itself
ALL: Row = {
    "window": 24, "softcap": 2.0, "alibi": True, "sinks": True, "kv_begin": True,
    "head_dim_v": 24, "lse": True, "half": True,
}  # fmt: skip
# Where there is one case, it should tell as much as a case can.
LEGIBLE: Properties = {"n_kv": (47, 65, 100), "inputs": ("normal",), "calls": ("once",)}
MOST_WORK = 1_000_000  # multiplications of a product
SIZES = ("batch", "n_head", "n_kv_head", "n_q", "n_kv", "head_dim")
Sizes = tuple[int, int, int, int, int, int]
PREFILL: Sizes = (1, 4, 2, 70, 70, 32)
CHUNK: Sizes = (1, 4, 4, 13, 69, 32)
DECODE: Sizes = (1, 4, 2, 1, 147, 32)
SHORT: Sizes = (3, 4, 4, 1, 33, 32)
FULL: Sizes = (1, 4, 4, 40, 65, 32)


@cache
def calls(strength: int) -> tuple[Row, ...]:
    """Arguments of `cases.Case`: each variant with all that `strength` properties can be.

    Any two variants meet, and with all that one property less can be.
    """
    rows = list[Row]()
    for name, values in VALUES.items():
        if name not in ELSEWHERE:
            rows += _covered(name, dict(values), strength)
    for a, b in combinations(VALUES, 2):
        if {a, b} != {"bfloat16", "bfloat16-q"}:
            rows += _covered(f"{a}+{b}", {**VALUES[a], **VALUES[b]}, strength - 1)
    return tuple(rows)


def _covered(name: str, values: Properties, strength: int) -> Iterator[Row]:
    stem = {0: name, 1: f"{name}-pair", 2: f"{name}-triple"}[strength]
    properties = {**values, **PROPERTIES, **(LEGIBLE if strength == 0 else {})}
    covered = cover(properties, _allowed, strength, SEED)
    for i, row in enumerate(covered):
        yield as_call(stem if strength == 0 else f"{stem}-{i}", row)


def _allowed(row: Row) -> bool:
    windowed = "window" in row and not row.get("causal", True)
    same = "head_dim_v" in row and row["head_dim_v"] == row.get("head_dim")
    return not windowed and not same and allowed(row, MOST_WORK)


def by_hand() -> Iterator[Row]:
    """Calls as models make them, and edges, with nothing else that is odd."""
    single: dict[str, dict[str, Any]] = {
        "softcap": {"softcap": 1.5},
        "alibi": {"alibi": True},
        "sinks": {"sinks": True},
        "lse": {"lse": True},
        "window": {"window": 20},
        "bfloat16-q": {"half": True},
    }
    for name, has in single.items():
        yield _row(f"{name}-prefill", PREFILL, layout="model", n_threads=2, **has)
        yield _row(f"{name}-chunk", CHUNK, **has)
        yield _row(f"{name}-decode", DECODE, layout="model", **has)
        yield _row(f"{name}-decode-short", SHORT, **has)
    yield _row("window-1", (1, 2, 2, 21, 21, 16), window=1)
    yield _row("window-wide", (1, 2, 2, 9, 40, 16), window=1000)
    yield _row("window-tiles", (1, 2, 2, 90, 90, 16), window=30, br=8, bc=16)
    yield _row("window-long", (1, 1, 1, 40, 3000, 16), window=100)
    yield _row("softcap-saturates", (1, 2, 2, 65, 65, 32), softcap=20.0, inputs="large")
    yield _row("softcap-full", FULL, softcap=1.0, causal=False)
    yield _row("alibi-full", FULL, alibi=True, causal=False)
    yield _row("alibi-many-heads", (2, 12, 4, 33, 33, 16), alibi=True)
    yield _row("sinks-many-heads", (2, 12, 4, 33, 33, 16), sinks=True)
    yield _row("sinks-falling", (1, 4, 4, 90, 90, 32), sinks=True, inputs="falling")
    yield _row("kv_begin-prefill", (3, 4, 2, 70, 70, 32), kv_begin=True, layout="model")
    yield _row("kv_begin-chunk", (4, 2, 2, 13, 69, 32), kv_begin=True)
    yield _row("kv_begin-decode", (5, 4, 2, 1, 147, 32), kv_begin=True, layout="model")
    yield _row("kv_begin-full", (3, 2, 2, 21, 40, 32), kv_begin=True, causal=False)
    for name, sizes, width in (
        ("prefill", PREFILL, 24), ("wide", PREFILL, 59), ("decode", DECODE, 80), ("chunk", CHUNK, 1)
    ):  # fmt: skip
        yield _row(f"head_dim_v-{name}", sizes, head_dim_v=width, layout="model", n_threads=2)
    yield _row("lse-padded", (2, 3, 3, 33, 50, 16), lse=True, layout="padded")
    yield _row("window+softcap-decode", DECODE, window=20, softcap=1.5)  # as Gemma 2 has them
    yield _row("window+sinks-prefill", PREFILL, window=20, sinks=True)  # as gpt-oss has them
    yield _row("window+kv_begin-prefill", (3, 2, 2, 70, 70, 32), window=20, kv_begin=True)
    yield _row("softcap+alibi-prefill", PREFILL, softcap=1.5, alibi=True)
    yield _row("sinks+lse-prefill", PREFILL, sinks=True, lse=True)
    yield _row("everything-prefill", (3, 4, 2, 70, 70, 32), layout="padded", n_threads=3, **ALL)
    yield _row("everything-decode", (4, 4, 2, 1, 147, 32), layout="model", **ALL)
    yield _row("everything-heads", (2, 8, 4, 37, 69, 32), calls="heads", **ALL)
    yield _row("everything-edge", (2, 4, 2, 9, 45, 32), layout="edge", **ALL)


def _row(name: str, sizes: Sizes, **more: Any) -> Row:
    return {"name": name, **dict(zip(SIZES, sizes, strict=True)), **more}
