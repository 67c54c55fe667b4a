"""Durations in words: the unit fits, and no rounding shows 60 s or 60 min."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytest

from gpt149.system.words import brief, duration, in_shell


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (5e-7, "0.50 us"),
        (2e-5, "20.0 us"),
        (0.000432, "432 us"),
        (0.00152, "1.52 ms"),
        (0.0241, "24.1 ms"),
        (0.15, "0.15 s"),
        (0.999, "1.00 s"),
        (9.996, "10.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (123.4, "2 min 3 s"),
        (3599.6, "1 h 0 min"),
        (3900.0, "1 h 5 min"),
        (7199.0, "2 h 0 min"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_could_not_be_measured_is_no_error() -> None:
    assert duration(math.nan) == "nan s"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", "'a\\nb'"),
        (None, "None"),
        (0.5, "0.5"),
        ([[[[[1]]]]], "[[[[...]]]]"),
        (10**6000, "a huge int"),
        ({"a": {}}, "{'a': {}}"),
    ],
    ids=range(6),
)
def test_a_value_of_any_kind_is_told_in_brief(value: object, text: str) -> None:
    assert brief(value) == text


def test_what_is_large_or_deep_is_told_in_brief_too() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, list(range(10**6)), {i: i for i in range(1000)}):
        assert len(brief(value)) <= 90


@pytest.mark.parametrize("path", ["mine.cpp", "my kernel.cpp", "a'b.cpp", "$HOME.cpp", "-x.cpp"])
def test_a_path_for_the_shell_is_one_word_and_no_option(path: str) -> None:
    [word] = shlex.split(in_shell(path))
    assert Path(word) == Path(path)
    assert not word.startswith("-")
