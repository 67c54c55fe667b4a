"""Covering sets: few rows in which values of properties meet, every pair of them or every triple.

A mistake shows where two or three values meet (bfloat16 in a decode step, several threads where
the rows are odd), and all of their products are millions. Greedy: each row takes in as many
meetings as it can that no earlier row has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Properties = Mapping[str, Sequence[Any]]
Allowed = Callable[[Row], bool]  # of a row, complete or not; False if no more values can mend it

CANDIDATES = 3  # rows that are tried for each that is taken


def cover(properties: Properties, allowed: Allowed, strength: int, seed: int) -> list[Row]:
    """Rows, a value for each property, in which every feasible meeting of `strength` values is.

    The same for the same seed.
    """
    random = Random(seed)
    missing = _Missing(properties, strength)
    rows = []
    for names, table in missing.tables.items():
        while table.any():
            at = np.unravel_index(int(table.argmax()), table.shape)
            meeting = {n: properties[n][int(i)] for n, i in zip(names, at, strict=True)}
            if completed(meeting, properties, allowed) is None:
                table[at] = False
                continue
            grown = [
                _grown(meeting, properties, allowed, missing, random) for _ in range(CANDIDATES)
            ]
            rows.append(max(grown, key=missing.in_row))
            missing.take(rows[-1])
    return rows


def completed(meeting: Row, properties: Properties, allowed: Allowed) -> Row | None:
    """A row with these values, None if there is none that is allowed."""
    if not allowed(meeting):
        return None
    name = next((name for name in properties if name not in meeting), None)
    if name is None:
        return meeting
    tried = (completed(meeting | {name: v}, properties, allowed) for v in properties[name])
    return next((row for row in tried if row is not None), None)


class _Missing:
    """The meetings that no row has yet: for each choice of properties, a bool for all values."""

    def __init__(self, properties: Properties, strength: int) -> None:
        self._index = {n: {v: i for i, v in enumerate(vs)} for n, vs in properties.items()}
        self._strength = strength
        self.tables: dict[tuple[str, ...], NDArray[np.bool_]] = {
            names: np.ones([len(properties[n]) for n in names], dtype=bool)
            for names in combinations(properties, strength)
        }

    def gains(self, row: Row, name: str) -> list[int]:
        """For each value of a property, how many missing meetings it has with a row's values."""
        total = np.zeros(len(self._index[name]), int)
        ordered = [n for n in self._index if n in row or n == name]
        for names in combinations(ordered, self._strength):
            if name in names:
                at = (slice(None) if n == name else self._index[n][row[n]] for n in names)
                total += self.tables[names][tuple(at)]
        return total.tolist()  # type: ignore[no-any-return]

    def in_row(self, row: Row) -> int:
        return sum(bool(self.tables[names][self._at(row, names)]) for names in self.tables)

    def take(self, row: Row) -> None:
        for names, table in self.tables.items():
            table[self._at(row, names)] = False

    def _at(self, row: Row, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self._index[n][row[n]] for n in names)


def _grown(
    meeting: Row, properties: Properties, allowed: Allowed, missing: _Missing, random: Random
) -> Row:
    """A row with the meeting, and with as many missing ones as a random order of choices gives."""
    row = dict(meeting)
    rest = [name for name in properties if name not in row]
    random.shuffle(rest)
    for name in rest:
        choices = list(zip(missing.gains(row, name), properties[name], strict=True))
        random.shuffle(choices)
        for _, value in sorted(choices, key=lambda choice: -choice[0]):
            if allowed(row | {name: value}):
                row[name] = value
                break
        else:  # a dead end
            return completed(meeting, properties, allowed) or row
    return row
