"""Mutated references: attention with one known mistake, or two, predicts what the kernel gave.

A prediction is held against failing cases, which it must explain, and against passing ones, which
it must not contradict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .finding import Finding
from .judge import EPS, SLACK
from .mistakes import Setup, mistakes, right
from .observe import Observation

MATCH = 64.0  # times the tolerance: predictions are float64, the kernel has rounding of its own
MATCH_HALF = 2.0  # of bfloat16, whose tolerance is a bound already, and wide
USUAL_WEIGHT = 8.0  # w_ij of the judge's bound, where scores are mild
MOST_WORK = 3_000_000  # of a case that is worth trying every mistake on
MOST_KEYS = 4096  # the same: some mistakes take memory for the square of them
MOST_CASES = 10  # failing, and as many passing ones
PAIR_CASES, LEAST_CASES = 3, 2
ENOUGH = 0.7  # of the cases that one mistake must explain, before two are tried

# (cause, sentence, the kernel's own choice of bc, see `tile_sizes`, or 0): one way of being wrong.
Hypothesis = tuple[str, str, int]


def by_mistake(wrong: Sequence[Observation], all_of_them: Sequence[Observation]) -> list[Finding]:
    """Mistakes that explain the failing cases and contradict no passing one."""
    telling = [o for o in wrong if _worth(o) and np.isfinite(o.out).any()]
    # Where scores are large, rounding may be, too: of what is not, enough will do.
    normal = [o for o in telling if o.case.inputs == "normal"]
    enough = 1 if wrong[0].case.needs else PAIR_CASES  # a softcap hides most of what is large
    telling = normal if len(normal) >= enough else telling
    # Of all sizes: what the smallest have in common may say nothing of the others.
    some = np.unique(np.linspace(0, len(telling) - 1, MOST_CASES).astype(int))
    failing = [telling[i] for i in some] if telling else []
    passing = [o for o in all_of_them if o.passed and _worth(o)]
    passing = sorted(passing, key=lambda o: o.case.work)[:MOST_CASES]
    explained = [_hypotheses(o, _agrees_tellingly) for o in failing]
    explains = Counter(h for hypotheses in explained for h in hypotheses)
    denied = Counter(h for o in passing for h in _hypotheses(o, _shows) if h in explains)
    findings: dict[str, Finding] = {}

    def rank(item: tuple[Hypothesis, int]) -> tuple[int, bool, int, str]:
        hypothesis, n = item
        return denied[hypothesis] - n, hypothesis[2] < 0, abs(hypothesis[2]), hypothesis[0]

    for hypothesis, n in sorted(explains.items(), key=rank):
        cause, sentence, bc = hypothesis
        share = max(0, n - denied[hypothesis]) / len(failing)
        if cause in findings or not share:
            continue
        when = "where none is" if bc > 0 else "whatever is"
        tile = f" (bc={abs(bc)} {when} asked for)" if bc else ""
        evidence = f"a reference with this mistake gives this output in {n} of {len(failing)} cases"
        findings[cause] = Finding(cause, sentence + tile, evidence, share)
    found = list(findings.values())
    if found and found[0].share == 1:  # what explains less is chance
        found = [finding for finding in found if finding.share == 1]
    if found and found[0].share >= ENOUGH:
        return found
    # A pair shows where no mistake alone explains what came out.
    rest = [o for o, h in zip(failing, explained, strict=True) if not h]
    pairs = _by_pair(rest) if len(rest) >= PAIR_CASES else []
    return pairs or found


def _worth(o: Observation) -> bool:
    plain = o.case.calls == "once" and o.case.layout != "far"
    small = o.case.work <= MOST_WORK and o.case.n_kv <= MOST_KEYS
    return plain and small and o.verdict is not None


def _hypotheses(
    o: Observation, holds: Callable[[Observation, NDArray[np.float64]], bool]
) -> set[Hypothesis]:
    """The hypotheses whose prediction for this case does what `holds` asks."""
    setup = _setup(o)
    return {
        (mistake.cause, mistake.sentence, bc)
        for mistake in mistakes(o.case)
        if holds(o, mistake.change(setup).predict())
        for bc in mistake.tiles
    }


def _by_pair(failing: Sequence[Observation]) -> list[Finding]:
    """Two mistakes at once that explain the smallest failing cases."""
    # In a call of a few tokens, many pairs look alike.
    large = [o for o in failing if o.case.n_q > 3 and o.case.n_kv > 15 and o.case.head_dim > 3]
    some = large[:PAIR_CASES]
    if len(some) < LEAST_CASES:
        return []
    candidates: set[tuple[str, str]] | None = None
    said: dict[tuple[str, str], str] = {}
    for o in some:
        setup = _setup(o)
        found = set()
        showing = [m for m in mistakes(o.case) if _shows(o, m.change(setup).predict())]
        for a, b in combinations(showing, 2):
            key = (a.cause, b.cause)
            if (
                a.step == b.step
                or key in found
                or (candidates is not None and key not in candidates)
            ):
                continue
            if _agrees_tellingly(o, b.change(a.change(setup)).predict()):
                found.add(key)
                said.setdefault(key, f"{a.sentence}; and {b.sentence}")
        candidates = found if candidates is None else candidates & found
        if not candidates:
            return []
    return [
        Finding(
            " + ".join(key),
            said[key],
            f"a reference with both mistakes gives this output in {len(some)} of {len(some)} "
            "failing cases; neither alone does",
            1.0,
        )
        for key in sorted(candidates or ())
    ]


def _setup(o: Observation) -> Setup:
    q, k, v = (t.astype(np.float64) for t in (o.q, o.k, o.v))
    return right(o.case, q, k, v)


def _shows(o: Observation, predicted: NDArray[np.float64]) -> bool:
    """Whether the prediction can be told from the right answer."""
    assert o.verdict is not None
    with np.errstate(invalid="ignore"):
        error = np.abs(predicted - o.verdict.expected.want)
    return not bool((error <= 2 * _match(o) * o.verdict.expected.tolerance).all())


def _match(o: Observation) -> float:
    return MATCH_HALF if o.case.half_kv else MATCH


def _agrees_tellingly(o: Observation, predicted: NDArray[np.float64]) -> bool:
    """Whether the output is the predicted one, NaN for NaN, and not the right one as well."""
    assert o.verdict is not None
    out, finite = o.out.astype(np.float64), np.isfinite(o.out)
    if not finite.any() or not np.array_equal(finite, np.isfinite(predicted)):
        return False  # where all is NaN, many mistakes would explain it
    off = np.abs(out[finite] - predicted[finite])
    # A mistake that makes values large makes their rounding large as well.
    largest = np.abs(predicted[finite]).max(initial=0)
    growth = max(1.0, largest / np.abs(o.verdict.expected.want).max())
    # And where next to nothing is right, that of what is predicted counts.
    rows = np.where(finite, np.abs(predicted), 0).max(-1, keepdims=True)
    own = np.broadcast_to(USUAL_WEIGHT * EPS * SLACK * rows, finite.shape)[finite]
    near = off <= _match(o) * np.maximum(growth * o.verdict.expected.tolerance[finite], own)
    return bool(near.all()) and _shows(o, predicted)
