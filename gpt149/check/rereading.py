"""A function of another signature that is wrong: would it be right, read in another way?

Tried, one thing after the other, is what no parameter says (`Signature.others`); believed is what
cures more than half of the cases that fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import Gpt149Error
from ..kernels.registry import Source
from ..kernels.signatures import Signature
from .finding import Finding
from .observe import Observation

MOST_REREAD = 6  # cases that failed, and that passed, before all are asked
Check = Callable[..., Any]  # (source, cases, *, timeout, explained) -> run.Report


def reread(
    source: Source,
    signature: Signature,
    observations: Sequence[Observation],
    timeout: float,
    check: Check,
) -> tuple[list[Finding], list[Finding]]:
    """What takes the place of all findings, and what is a note, if the function was read wrong.

    In another layout, nothing that is read from its output means anything. check: `run.check`.
    """
    said, read, judged = list[str](), signature, observations
    while nearer := _nearer(source, read, judged, timeout, check):
        word, read, judged = nearer
        said.append(word)
    if not said:
        return [], []
    n, before, after = len(judged), _n_failed(observations), _n_failed(judged)
    cured = "it is right" if not after else f"{n - after} of {n} cases are right, not {n - before}"
    text = (
        f"with 'gpt149: {', '.join(said)}' in a comment {cured}. Say so, if that is what is meant"
    )
    if read.axes == signature.axes:
        return [], [Finding("read_otherwise", text, "", 0.0)]
    return [Finding("read_otherwise", text, f"tried in {n} cases", 1.0)], []


def _nearer(
    source: Source,
    signature: Signature,
    observations: Sequence[Observation],
    timeout: float,
    check: Check,
) -> tuple[str, Signature, Sequence[Observation]] | None:
    """Another reading, by one thing, with which less than half as many cases fail."""
    by_size = sorted(observations, key=lambda o: o.case.batch * o.case.n_head * o.case.n_kv)
    failed = [o for o in by_size if not o.passed]
    passed = [o for o in by_size if o.passed]
    few = [o.case for o in [*failed[:MOST_REREAD], *passed[-MOST_REREAD:]]]
    for said, other in signature.others():
        if not failed or not _may_be(other, signature, failed):
            continue
        read = replace(source, signature=other)
        with suppress(Gpt149Error):
            for asked in (few, [o.case for o in observations]):
                judged = check(read, asked, timeout=timeout, explained=False).observations
                n_failed = len(asked) - sum(o.passed for o in judged)
                if 2 * n_failed >= sum(o.case in asked for o in failed):
                    break
            else:
                return said, other, judged
    return None


def _n_failed(observations: Sequence[Observation]) -> int:
    return sum(not o.passed for o in observations)


def _may_be(other: Signature, signature: Signature, failed: Sequence[Observation]) -> bool:
    """Whether what failed could be right if the function is another than it was read as."""
    cases = [o.case for o in failed]
    if other.causal != signature.causal:
        return sum(case.causal for case in cases) <= len(cases) / 2
    if other.scale != signature.scale:
        return not any(case.n_kv == 1 or case.head_dim == 1 for case in cases)
    if sorted(other.axes) != sorted(signature.axes):
        return all(o.answer.outcome == "raised" for o in failed)
    return not (signature.prototype and any(case.n_head == 1 for case in cases))
