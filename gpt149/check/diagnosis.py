"""Why is it wrong? Hypotheses, ranked by how many cases they explain, with the evidence.

Instruments are asked in turn: `experiments.py`, `predictions.py`, and for what these do not explain
`reading/`, which reads the mistake from outputs of its own choosing. The rest is called unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .experiments import by_experiment, right_when_alone, state_left_behind
from .finding import Finding
from .observe import Bench, Observation
from .predictions import by_mistake
from .reading.read import VAGUE, read
from .reading.where import only_where, when, where
from .symptoms import by_pattern, without_values

SURE = 0.8  # of the failing cases that a known mistake must explain, before reading is asked


def diagnose(observations: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Causes, the likeliest first; empty if everything passed."""
    findings = _findings([o for o in observations if not o.passed], observations, bench)
    if findings and (shared := _shared(observations)):
        findings[0] = replace(findings[0], sentence=f"{findings[0].sentence}; {shared}")
    return findings


def _shared(observations: Sequence[Observation]) -> str:
    """What failing calls have, and others do not: that belongs to the cause."""
    if predicate := when(observations):
        return f"calls fail exactly where {predicate}"
    if properties := only_where(observations):
        return f"calls fail only where {properties}"
    return ""


def _findings(
    failed: Sequence[Observation], observations: Sequence[Observation], bench: Bench
) -> list[Finding]:
    findings = sorted(without_values(failed), key=lambda finding: -finding.share)
    crashed = [o for o in failed if o.answer.outcome == "crash"]
    if crashed and len(crashed) < len(observations) and right_when_alone(crashed, bench):
        findings.insert(0, state_left_behind(crashed))
    # Bfloat16 adds mistakes of its own: it is looked into where nothing else is wrong.
    plain = [o for o in failed if o.wrong and not o.case.half_kv]
    wrong = sorted(plain or [o for o in failed if o.wrong], key=lambda o: o.case.work)
    if not wrong:
        return findings
    if any(o.changed_inputs for o in failed):
        return findings  # spoiled inputs explain wrong values behind them
    if tried := by_experiment(wrong, bench):
        return findings + tried
    # Where a mistake is recognised, the crash that comes with it follows from it; or the hang, for
    # spoiled memory may end in either.
    broken = any(o.answer.outcome in ("crash", "hang") for o in failed)
    named = by_mistake(wrong, observations)
    if named and named[0].share >= SURE:
        return named + findings if broken else findings + named
    if seen := read(wrong, [o for o in observations if o.passed], bench):
        return seen + findings if broken and seen[0].cause not in VAGUE else findings + seen
    return findings + [*named, *by_pattern(wrong), _unknown(wrong[0])][:2]


def _unknown(smallest: Observation) -> Finding:
    assert smallest.verdict is not None
    places = where(smallest.verdict.wrong)
    evidence = f"in '{smallest.case.name}' wrong are {places}" if places else ""
    return Finding("unknown", "no known mistake explains this output", evidence, 0.0)
