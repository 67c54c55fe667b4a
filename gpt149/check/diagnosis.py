"""Why is it wrong? Hypotheses, ranked by how many cases they explain, with the evidence.

Instruments are asked in turn: `experiments.py`, `predictions.py`, and for what these do not explain
`reading/`, which reads the mistake from outputs of its own choosing. The rest is called unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from .experiments import by_experiment, right_when_alone, state_left_behind
from .finding import Finding
from .observe import Bench, Observation
from .predictions import ENOUGH, by_mistake
from .reading.read import read
from .symptoms import by_pattern, without_values
from .vprobe import read_off


def diagnose(observations: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Causes, the likeliest first; empty if everything passed."""
    failed = [o for o in observations if not o.passed]
    if not failed:
        return []
    findings = sorted(without_values(failed), key=lambda finding: -finding.share)
    crashed = [o for o in failed if o.answer.outcome == "crash"]
    if crashed and len(crashed) < len(observations) and right_when_alone(crashed, bench):
        findings.insert(0, state_left_behind(crashed))
    if all(o.case.half_kv for o in failed):
        sentence = (
            "keys and values in bfloat16 are read as if they were float32: look at kv_dtype, or "
            "decline them (gpt149_only_float32)"
        )
        evidence = f"only '{failed[0].case.name}' is wrong"
        return [Finding("kv_dtype_ignored", sentence, evidence, 1.0), *findings]
    plain = [o for o in failed if o.wrong and not o.case.half_kv]
    wrong = sorted(plain, key=lambda o: o.case.work)
    if not wrong:
        return findings
    if any(o.changed_inputs for o in failed):
        return findings  # spoiled inputs explain wrong values behind them
    if tried := by_experiment(wrong, bench):
        return findings + tried
    named = by_mistake(wrong, observations)
    if named and named[0].share >= ENOUGH:
        # Where a mistake is recognised, the crash that comes with it follows from it; or the hang,
        # for spoiled memory may end in either.
        broken = any(o.answer.outcome in ("crash", "hang") for o in failed)
        return named + findings if broken else findings + named
    seen = read(wrong, [o for o in observations if o.passed], bench)
    return findings + [*seen, *named, *by_pattern(wrong), _unknown(wrong[0], bench)][:2]


def _unknown(smallest: Observation, bench: Bench) -> Finding:
    facts = read_off(smallest, bench) if smallest.case.calls == "once" else []
    evidence = f"read off its attention matrix in '{smallest.case.name}': {'; '.join(facts)}"
    sentence = "no known mistake explains this output"
    return Finding("unknown", sentence, evidence if facts else "", 0.0)
