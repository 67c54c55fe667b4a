"""Covering sets: every feasible meeting of values is in a row, and in a case of `check`."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest

from gpt149.check import pairs
from gpt149.check.cases import full, quick
from gpt149.check.covering import Row, cover

SMALL = {"a": (0, 1, 2), "b": (0, 1), "c": (0, 1, 2, 3), "d": ("x", "y")}


def small_allowed(row: Row) -> bool:
    return row.get("a", 0) + row.get("c", 0) < 5 and (row.get("b"), row.get("d")) != (1, "y")


@pytest.mark.parametrize("strength", [1, 2, 3, 4])
def test_a_small_system_is_covered_as_all_its_products_are(strength: int) -> None:
    rows = cover(SMALL, small_allowed, strength, 0)
    every = [dict(zip(SMALL, values, strict=True)) for values in product(*SMALL.values())]
    possible = [row for row in every if small_allowed(row)]
    assert all(row in possible for row in rows)
    assert meetings(rows, strength) == meetings(possible, strength)
    assert len(rows) <= len(possible)


def test_rows_follow_the_seed() -> None:
    first, again, other = (cover(SMALL, small_allowed, 2, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def meetings(rows: list[Row], strength: int) -> set[tuple[Any, ...]]:
    return {
        tuple((name, row[name]) for name in names)
        for row in rows
        for names in combinations(sorted(row), strength)
    }


def properties_of(case: Any) -> Row:
    """A case as the values that `pairs` chose for it."""
    if case.n_q == case.n_kv + 9:
        queries = ["more"]
    else:
        queries = [name for name, n in pairs.QUERIES.items() if n(case.n_kv) == case.n_q]
    own = {name: getattr(case, name) for name in pairs.PROPERTIES if hasattr(case, name)}
    return own | {"group": case.n_head // case.n_kv_head, "queries": queries}


def possible(meeting: Row) -> bool:
    """Whether there is a call of these values, told by the work of the smallest one."""
    row = {"batch": 1, "n_kv_head": 1, "group": 1, "head_dim": 7, "n_kv": 1} | meeting
    if meeting.get("queries") == "more" and meeting.get("causal") is True:
        return False
    n = row["n_kv"]
    n_q = {"few": min(3, n), "most": n - n // 3, "all": n, "more": n + 9}.get(
        meeting.get("queries", "one"), 1
    )
    heads = row["batch"] * row["n_kv_head"] * row["group"]
    return bool(heads * n_q * n * row["head_dim"] <= pairs.MOST_WORK)


@pytest.mark.parametrize(("strength", "cases"), [(2, quick), (3, full)])
def test_all_feasible_values_meet_in_a_case(strength: int, cases: Any) -> None:
    """Of float32 among themselves, and of bfloat16 with all but one of them."""
    asked = [case for case in cases() if case.name.startswith(("pair", "triple"))]
    for half_kv, n in ((False, strength), (True, strength - 1)):
        met = set()
        for case in asked:
            if case.half_kv == half_kv:
                row = properties_of(case)
                for queries in row["queries"]:
                    met |= meetings([row | {"queries": queries}], n)
        wanted = [
            dict(zip(names, values, strict=True))
            for names in combinations(sorted(pairs.PROPERTIES), n)
            for values in product(*(pairs.PROPERTIES[name] for name in names))
        ]
        feasible = {tuple(meeting.items()) for meeting in wanted if possible(meeting)}
        assert len(feasible) > 0.9 * len(wanted)
        assert feasible <= met


def test_the_cases_made_of_pairs_are_small() -> None:
    made = [case for case in quick() if case.name.startswith("pair")]
    assert len(made) < 100
    assert sum(case.work for case in made) < 100_000_000
    assert all(case.n_q <= case.n_kv for case in made if case.causal)
