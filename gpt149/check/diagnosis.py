"""Why is it wrong? Hypotheses, ranked by how many cases they explain, with the evidence.

Instruments are asked in turn: `experiments.py`, `predictions.py`, and for what these do not explain
`reading/`, which reads the mistake from outputs of its own choosing. The rest is called unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .experiments import by_experiment, right_when_alone, state_left_behind
from .finding import Finding
from .observe import Bench, Observation
from .predictions import by_mistake
from .reading.read import VAGUE, read
from .reading.where import only_where, when, where
from .symptoms import by_pattern, by_size, without_values
from .variation import CAUSES, UNSAID, by_lse, by_variant, name_of, naming, without

CHANCE = ("race", "not_reentrant", "not_repeatable")  # which calls fail is another time another
COUNTED = ("out_truncated",)  # shows in calls of many values, whatever else they have
ROUGHLY = ("keys_lost", "values_off", "half_precision", "sum_rough", "exp_wrong")
MOST_GROUPS = 6  # of variants that are looked into one by one
MOST_TWINS = 10  # calls of a variant that are repeated without it
SURE = 0.8  # of the failing cases that a known mistake must explain, before reading is asked


def diagnose(observations: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Causes, the likeliest first; empty if everything passed."""
    findings = _findings([o for o in observations if not o.passed], observations, bench)
    findings = _of_most(findings, observations)
    chance = bool(findings) and findings[0].cause in CHANCE
    wrong = [o for o in observations if o.wrong]
    varied = bool(wrong) and all(o.case.needs for o in wrong)  # told of each variant
    return findings if chance or varied else _where_told(findings, observations, bench)


def _where_told(
    findings: list[Finding], observations: Sequence[Observation], bench: Bench
) -> list[Finding]:
    """With what failing calls have, and others do not, in the first sentence."""
    if not findings or findings[0].cause in COUNTED:
        return findings
    if not (shared := _shared(observations, bench)):
        return findings
    return [replace(findings[0], sentence=f"{findings[0].sentence}; {shared}"), *findings[1:]]


def _of_most(findings: list[Finding], observations: Sequence[Observation]) -> list[Finding]:
    """What was read from a clean case comes before misuse of memory in some others."""
    clean = {o.case.name for o in observations if o.wrong and not o.answer.workspace_overrun}
    read_ = [f for f in findings if f.case in clean and not f.partial and f.cause not in VAGUE]
    if not findings or not findings[0].partial or not read_:
        return findings
    return [*read_, *(f for f in findings if f not in read_)]


def _shared(observations: Sequence[Observation], bench: Bench) -> str:
    """What failing calls have, and others do not: that belongs to the cause."""
    if predicate := when(observations, bench):
        return f"calls fail exactly where {predicate}"
    if properties := only_where(observations, bench):
        return f"calls fail only where {properties}"
    return ""


def _findings(
    failed: Sequence[Observation], observations: Sequence[Observation], bench: Bench
) -> list[Finding]:
    findings = sorted(without_values(failed), key=lambda finding: -finding.share)
    crashed = [o for o in failed if o.answer.outcome == "crash"]
    if crashed and len(crashed) < len(observations) and right_when_alone(crashed, bench):
        findings.insert(0, state_left_behind(crashed))
    wrong = [o for o in failed if o.wrong]
    plain = [o for o in wrong if not o.case.needs]
    if plain or not wrong:
        found = _of_values(failed, plain, findings, observations, bench)
        if not plain:
            return by_lse([o for o in failed if o.wrong_lse], bench) + found
        return found + list(_beside([o for o in wrong if o.case.needs], bench))
    # Variants add mistakes of their own: each is looked into where nothing else is.
    told = list[list[Finding]]()
    for group in _groups(wrong):
        if sum(bool(o.changed_inputs) for o in group) > 0.5 * len(group):
            continue
        needed = group[0].case.needs
        alike = [o for o in observations if not needed & ~o.case.needs]
        others = [o for o in failed if o not in wrong or o in group]
        found = _of_values(others, group, [], alike, bench)
        found = _where_told(naming(needed, by_variant(group, found, bench)), alike, bench)
        told.append([replace(finding, of=name_of(needed)) for finding in found])
    told = sorted(filter(None, told), key=lambda found: found[0].cause in UNSAID)
    vague = not told or told[0][0].cause in UNSAID
    said = [finding for found in told for finding in found]
    findings = findings + said if vague else said + findings
    return findings + by_lse([o for o in failed if o.wrong_lse], bench)


def _beside(varied: Sequence[Observation], bench: Bench) -> Iterator[Finding]:
    """Known mistakes in a variant, where plain calls are wrong as well: of those with the variant
    alone that are right without it.
    """
    for feature, name in CAUSES.items():
        some = [o for o in varied if o.case.needs == feature][:MOST_TWINS]
        alone = [o for o in some if bench.observe(without(o.case, feature)).passed]
        named = by_mistake(alone, []) if len(alone) > 1 else []
        if named and named[0].share >= SURE and named[0].cause.startswith(name):
            yield replace(named[0], of=name)


def _groups(wrong: Sequence[Observation]) -> list[list[Observation]]:
    """Those that need the same, and no less than others do; the largest groups first."""
    groups = dict[int, list[Observation]]()
    for o in wrong:
        groups.setdefault(int(o.case.needs), []).append(o)
    least = [n for n in groups if not any(other != n and not other & ~n for other in groups)]
    return [groups[n] for n in sorted(least, key=lambda n: -len(groups[n]))[:MOST_GROUPS]]


def _of_values(
    failed: Sequence[Observation],
    wrong: Sequence[Observation],
    findings: list[Finding],
    observations: Sequence[Observation],
    bench: Bench,
) -> list[Finding]:
    """What wrong values say, besides findings that are known."""
    wrong = sorted(wrong, key=lambda o: o.case.work)
    if not wrong:
        return findings
    if sum(bool(o.changed_inputs) for o in wrong) > 0.5 * len(wrong):
        return findings  # spoiled inputs explain wrong values behind them
    wrong = [o for o in wrong if not o.changed_inputs]
    if tried := by_experiment(wrong, bench):
        return findings + tried
    # Where a mistake is recognised, the crash that comes with it follows from it; or the hang, for
    # spoiled memory may end in either.
    ends = [o.case.layout for o in failed if o.answer.outcome in ("crash", "hang")]
    only_that = all(finding.cause in ("crash", "hang") for finding in findings)
    broken = bool(ends) and (only_that or set(ends) != {"edge"})
    named = by_mistake(wrong, observations)
    if wrong[0].case.needs and not (named and named[0].share >= SURE):
        # A variant may be wrong in one path: what passes in the others says nothing against that.
        named = by_mistake(wrong, []) or named
    if named and named[0].share >= SURE:
        return named + findings if broken else findings + named
    seen = read(wrong, [o for o in observations if o.passed], bench)
    if not seen or seen[0].cause in ROUGHLY:
        seen = [*by_size([o for o in failed if o.wrong]), *seen]
    if seen:
        return seen + findings if broken and seen[0].cause not in VAGUE else findings + seen
    told = [*named, *by_pattern(wrong), _unknown(wrong[0])][:2]
    outside = told[0].cause == "reads_outside"  # which may be a crash, too
    return told + findings if outside else findings + told


def _unknown(smallest: Observation) -> Finding:
    assert smallest.verdict is not None
    places = where(smallest.verdict.wrong)
    evidence = f"in '{smallest.case.name}' wrong are {places}" if places else ""
    return Finding("unknown", "no known mistake explains this output", evidence, 0.0)
