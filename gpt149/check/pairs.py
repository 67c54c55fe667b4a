"""Small cases in which the values of all properties of a call meet, pair by pair.

float32 first, as if there were nothing else, for most kernels claim no bfloat16, which then meets
everything once more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from .covering import Row, cover

# How many queries to how many keys: `most` ends within a tile, `more` leaves some without a key of
# their own and is not causal.
QUERIES: dict[str, Callable[[int], int]] = {
    "one": lambda n_kv: 1,
    "few": lambda n_kv: min(3, n_kv),
    "most": lambda n_kv: n_kv - n_kv // 3,
    "all": lambda n_kv: n_kv,
    "more": lambda n_kv: n_kv + 9,
}
PROPERTIES: dict[str, tuple[Any, ...]] = {
    "batch": (1, 2, 4, 5),
    "n_kv_head": (1, 2, 3),
    "group": (1, 2, 5, 8),  # query heads a key head
    "head_dim": (7, 8, 32, 64, 65, 80, 128, 136, 200),
    "queries": tuple(QUERIES),
    "n_kv": (1, 17, 47, 65, 100, 645),
    "causal": (True, False),
    "scale": (None, 0.2),
    "layout": ("contiguous", "model", "padded"),
    "inputs": ("normal", "large", "falling", "rising", "low"),
    "n_threads": (1, 2, 3, 5, 8),
    "br": (0, 1, 8, 32),
    "bc": (0, 5, 16, 48),
    "calls": ("once", "again", "changed"),
}
MOST_WORK = 3_000_000  # multiplications of a product
SEED = 149


@cache
def calls(strength: int) -> tuple[Row, ...]:
    """Arguments of `cases.Case` so that all feasible `strength` values of properties meet in one.

    Names are `pair-0` or `triple-0` and so on, and `pair-bfloat16-0`.
    """
    stem = {2: "pair", 3: "triple"}[strength]
    wide = cover(PROPERTIES, allowed, strength, SEED)
    half = cover(PROPERTIES, allowed, strength - 1, SEED)  # bfloat16 is one that meets
    return (
        *(as_call(f"{stem}-{i}", row) for i, row in enumerate(wide)),
        *(as_call(f"{stem}-bfloat16-{i}", row | {"half_kv": True}) for i, row in enumerate(half)),
    )


def allowed(row: Row, most_work: int = MOST_WORK) -> bool:
    """Whether a call may have these values, and is small; of properties yet open the smallest."""
    if row.get("causal") and row.get("queries") == "more":
        return False
    least = {name: values[0] for name, values in PROPERTIES.items()} | row
    n_q = QUERIES[least["queries"]](least["n_kv"])
    heads: int = least["batch"] * least["n_kv_head"] * least["group"]
    work: int = heads * n_q * least["n_kv"] * least["head_dim"]
    return work <= most_work


def as_call(name: str, row: Row) -> Row:
    """A row's values as arguments of `cases.Case`."""
    call = row | {"name": name}
    call["n_q"] = QUERIES[call.pop("queries")](row["n_kv"])
    call["n_head"] = call.pop("group") * row["n_kv_head"]
    return call
