"""Every wrong kernel of the tests is caught, and its mistake named; right ones pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt149.check.cases import quick
from gpt149.check.observe import Memo
from gpt149.check.score import Entry, from_comments, score

KERNELS = Path(__file__).parents[1]
KNOWN = from_comments(KERNELS / "wrong_kernels", KERNELS / "right_kernels")
WRONG = [entry for entry in KNOWN if entry.kind == "wrong"]
RIGHT = [entry for entry in KNOWN if entry.kind == "right"]

# Of every third cause, the first: the self-test has all.
EXAMPLES = list({entry.cause: entry for entry in reversed(WRONG)}.values())[::3]


@pytest.fixture(scope="module")
def memo() -> Memo:
    """The right answers are worked out once."""
    return {}


@pytest.mark.parametrize("entry", EXAMPLES, ids=lambda entry: entry.name)
def test_the_mistake_is_named(entry: Entry, memo: Memo) -> None:
    timeout = {"hang": 1.0, "out_of_memory": 60.0}.get(entry.cause or "", 10.0)
    found = score(entry, quick(), timeout=timeout, memo=memo)
    assert found.caught
    assert found.named, (found.cause, found.sentence)


def test_there_are_enough_examples() -> None:
    assert len(WRONG) >= 120
    assert len(RIGHT) >= 30


@pytest.mark.parametrize("entry", RIGHT[::6], ids=lambda entry: entry.name)
def test_right_kernels_of_different_styles_pass(entry: Entry, memo: Memo) -> None:
    """Some of them: the self-test has all."""
    assert score(entry, quick(), timeout=10.0, memo=memo).verdict == "PASS"
