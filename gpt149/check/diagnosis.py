"""Why is it wrong? Hypotheses, ranked by how many cases they explain, with the evidence.

Two instruments. Experiments: the failing case again with one thing changed (a zeroed workspace, one
thread, equal tiles), where a right answer points to the cause. Mutated references: attention with
one known mistake, or two, whose prediction is held against what the kernel gave, in failing and in
passing cases. What none of them explains is called unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from .judge import expect, judge
from .mistakes import Setup, mistakes, right
from .observe import Bench, Observation
from .vprobe import read_off

MATCH = 16.0  # times the tolerance: predictions are float64, the kernel has rounding of its own
MOST_WORK = 3_000_000  # of a case that is worth trying every mistake on
MOST_CASES = 10  # failing, and as many passing ones
PAIR_CASES = 3
ALONE = 4  # failing cases that are run alone, each in a fresh process
ENOUGH = 0.7  # of the cases that one mistake must explain, before two are tried


@dataclass(frozen=True)
class Finding:
    """cause: a short name, or several joined by ' + '. share: of the cases, explained."""

    cause: str
    sentence: str
    evidence: str
    share: float


def diagnose(observations: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Causes, the likeliest first; empty if everything passed."""
    failed = [o for o in observations if not o.passed]
    if not failed:
        return []
    findings = sorted(_without_values(failed), key=lambda finding: -finding.share)
    crashed = [o for o in failed if o.answer.outcome == "crash"]
    if crashed and len(crashed) < len(observations) and _right_when_alone(crashed[:ALONE], bench):
        findings.insert(0, _state(crashed))
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
    if tried := _by_experiment(wrong, bench):
        return findings + tried
    if named := _by_mistake(wrong, observations):
        # Where a mistake is recognised, the crash that comes with it follows from it; or the hang,
        # for spoiled memory may end in either.
        broken = any(o.answer.outcome in ("crash", "hang") for o in failed)
        return named + findings if broken else findings + named
    return findings + [*_by_pattern(wrong), _unknown(wrong[0], bench)][:1]


def _unknown(smallest: Observation, bench: Bench) -> Finding:
    facts = read_off(smallest, bench) if smallest.case.calls == "once" else []
    evidence = f"read off its attention matrix in '{smallest.case.name}': {'; '.join(facts)}"
    sentence = "no known mistake explains this output"
    return Finding("unknown", sentence, evidence if facts else "", 0.0)


def _without_values(failed: Sequence[Observation]) -> Iterator[Finding]:
    """What is wrong whatever the values are: crashes, and memory that is not the kernel's."""
    outcomes = {
        "crash": "the kernel crashes",
        "hang": "the kernel does not return",
        "memory": "the kernel allocates without end",
        "exit": "the kernel ends the process",
        "declined": "the kernel declines",
        "raised": "the kernel raises an exception",
    }
    causes = {"memory": "out_of_memory", "exit": "exits", "declined": "declines"}
    for outcome, sentence in outcomes.items():
        hit = [o for o in failed if o.answer.outcome == outcome]
        if hit:
            first = min(hit, key=lambda o: o.case.work)
            yield Finding(
                causes.get(outcome, outcome),
                sentence,
                f"{len(hit)} cases, the smallest '{first.case.name}' ({first.case.describe()}): "
                f"{first.answer.detail}",
                len(hit) / len(failed),
            )
    changed = [o for o in failed if o.changed_inputs]
    if changed:
        names = sorted({name for o in changed for name in o.changed_inputs})
        yield Finding(
            "mutates_input",
            f"the kernel changes its input {', '.join(names)}",
            f"in {len(changed)} cases",
            len(changed) / len(failed),
        )
    outside = [o for o in failed if o.written_outside and not o.wrong]
    if outside:
        n, first_at = outside[0].written_outside or (0, 0)
        where = f"{first_at} elements behind its end" if first_at > 0 else "between or before rows"
        yield Finding(
            "writes_outside",
            f"the kernel writes outside of out: {n} elements, the first {where}",
            f"in {len(outside)} cases",
            len(outside) / len(failed),
        )
    overrun = [o for o in failed if o.answer.workspace_overrun]
    if overrun:
        yield Finding(
            "workspace_overrun",
            "the kernel writes outside of the workspace that it asked for",
            f"in {len(overrun)} cases, the smallest '{overrun[0].case.name}'",
            len(overrun) / len(failed),
        )


# -- experiments


def _by_experiment(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """The smallest failing case again with one thing changed; at most one finding."""
    first = wrong[0]
    case = first.case
    if _right_with_one_thread(wrong, bench):
        return [
            Finding(
                "race",
                "threads disturb each other: they share a temporary, or their rows overlap",
                f"'{case.name}' is right with 1 thread, wrong with {case.n_threads}",
                1.0,
            )
        ]
    at_once = all(o.case.calls == "heads" for o in wrong)
    if at_once and bench.observe(replace(case, calls="once")).passed:
        return [
            Finding(
                "not_reentrant",
                "calls at the same time disturb each other: they share a static or global buffer. "
                "The workspace is a call's own",
                f"'{case.name}' is right in one call, wrong in {case.n_kv_head} at once",
                1.0,
            )
        ]
    if _right_when_alone(wrong[:ALONE], bench):
        return [_state(wrong)]
    if not np.isfinite(first.out).all() or first.verdict is None or first.unwritten.any():
        if bench.observe(case, workspace_fill=0).passed:
            return [
                Finding(
                    "workspace_assumed_zero",
                    "the workspace is taken to be filled with zeros",
                    "right with a zeroed workspace, wrong with another",
                    1.0,
                )
            ]
        if bench.observe(case, zero_out=True).passed:
            return [
                Finding(
                    "out_not_zeroed",
                    "the output is added to what out held before: out is taken to be zeros",
                    "right when out arrives as zeros, wrong otherwise",
                    1.0,
                )
            ]
    if all(np.array_equal(o.verdict.wrong, o.unwritten) for o in wrong if o.verdict):
        return [
            Finding(
                "queries_unwritten",
                f"values of out are never written: {describe_rows(first.unwritten)}",
                f"what is written is right, in all of {len(wrong)} failing cases",
                1.0,
            )
        ]
    return _unequal_tiles(wrong, bench)


def _right_with_one_thread(wrong: Sequence[Observation], bench: Bench) -> bool:
    """Whether the failing cases, all of several threads, pass with one in the same process."""
    if any(o.case.n_threads == 1 for o in wrong):
        return False
    return all(bench.observe(o.case, n_threads=1).passed for o in wrong[:ALONE])


def _right_when_alone(failed: Sequence[Observation], bench: Bench) -> bool:
    """Whether each failing case passes as the first call of a fresh child."""
    for o in failed:
        bench.restart()
        if not bench.observe(replace(o.case, calls="once")).passed:
            return False
    return True


def _state(failed: Sequence[Observation]) -> Finding:
    """What an earlier call left behind: its result, or something that spoils this one."""
    for o in failed:
        if o.case.calls == "changed" and o.wrong:
            earlier = expect(o.case, *o.case.draw(1))
            if judge(o.out, earlier).passed:
                return Finding(
                    "cached_result",
                    "the result does not follow the inputs: an earlier call's is returned",
                    f"'{o.case.name}' gives the right answer to the call before",
                    1.0,
                )
    return Finding(
        "static_state",
        "what one call leaves behind spoils the next: a static or global buffer keeps its content "
        "or its size",
        f"'{failed[0].case.name}' is right as the first call of a process, wrong behind others",
        1.0,
    )


def _unequal_tiles(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Right whenever br = bc, of either size: then the two are confused somewhere."""
    tiled = [o for o in wrong if o.case.br and o.case.bc and o.case.calls == "once"]
    if not tiled:
        return []
    case = tiled[0].case
    sizes = [s for s in (case.br, case.bc) if s < case.n_kv]
    if sizes and all(bench.observe(replace(case, br=s, bc=s)).passed for s in sizes):
        return [
            Finding(
                "br_bc_confused",
                "br and bc are confused: one is used where the other is meant",
                f"'{case.name}' is right with br = bc = {' and '.join(map(str, sizes))}, wrong "
                f"with br={case.br} bc={case.bc}",
                1.0,
            )
        ]
    return []


# -- mutated references


# (cause, sentence, the kernel's own choice of bc or 0): one consistent way of being wrong.
Hypothesis = tuple[str, str, int]


def _by_mistake(wrong: Sequence[Observation], all_of_them: Sequence[Observation]) -> list[Finding]:
    """Mistakes that explain the failing cases and contradict no passing one."""
    failing = [o for o in wrong if _worth(o)][:MOST_CASES]
    passing = [o for o in all_of_them if o.passed and _worth(o)]
    passing = sorted(passing, key=lambda o: o.case.work)[:MOST_CASES]
    explained = [_hypotheses(o, _agrees_tellingly) for o in failing]
    explains = Counter(h for hypotheses in explained for h in hypotheses)
    denied = Counter(h for o in passing for h in _hypotheses(o, _shows) if h in explains)
    findings: dict[str, Finding] = {}
    for hypothesis, n in sorted(explains.items(), key=lambda item: denied[item[0]] - item[1]):
        cause, sentence, bc = hypothesis
        share = max(0, n - denied[hypothesis]) / len(failing)
        if cause in findings or not share:
            continue
        tile = f" (bc={bc} where none is asked for)" if bc else ""
        evidence = f"a reference with this mistake gives this output in {n} of {len(failing)} cases"
        findings[cause] = Finding(cause, sentence + tile, evidence, share)
    found = list(findings.values())
    if found and found[0].share >= ENOUGH:
        return found
    # A pair shows where its first mistake alone does not explain everything.
    best = {h for h in explains if found and h[0] == found[0].cause}
    rest = [o for o, h in zip(failing, explained, strict=True) if not best & h]
    return _by_pair(rest) or found


def _worth(o: Observation) -> bool:
    plain = o.case.calls == "once" and not o.case.half_kv
    return plain and o.case.work <= MOST_WORK and o.verdict is not None


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
    some = [o for o in failing if o.case.n_q > 1 and o.case.head_dim > 1][:PAIR_CASES]
    if not some:
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
    return not bool((error <= 2 * MATCH * o.verdict.expected.tolerance).all())


def _agrees_tellingly(o: Observation, predicted: NDArray[np.float64]) -> bool:
    """Whether the output is the predicted one, NaN for NaN, and not the right one as well."""
    assert o.verdict is not None
    out, finite = o.out.astype(np.float64), np.isfinite(o.out)
    if not finite.any() or not np.array_equal(finite, np.isfinite(predicted)):
        return False  # where all is NaN, many mistakes would explain it
    off = np.abs(out[finite] - predicted[finite]).max(initial=0)
    # A mistake that makes values large makes their rounding large as well.
    largest = np.abs(predicted[finite]).max(initial=0)
    growth = max(1.0, largest / np.abs(o.verdict.expected.want).max())
    return bool(off <= MATCH * growth * o.verdict.expected.tolerance) and _shows(o, predicted)


# -- patterns


def _by_pattern(wrong: Sequence[Observation]) -> Iterator[Finding]:
    """What the shape of the error says where no reference matches."""
    if all(o.case.inputs == "large" and not np.isfinite(o.out).all() for o in wrong):
        yield Finding(
            "no_max",
            "exp overflows: the row's maximum is not subtracted from the scores",
            "NaN or infinity where logits are of some hundreds, and only there",
            1.0,
        )
        return
    outside = [o for o in wrong if o.from_outside.any()]
    if outside:
        yield Finding(
            "reads_outside",
            "it computes with memory that is not q, k or v: strides, head_dim or a length are "
            "taken for others",
            f"the NaN that lies around the inputs comes out in {len(outside)} of {len(wrong)} "
            f"failing cases; in '{outside[0].case.name}' ({outside[0].case.describe()}): "
            f"{describe_rows(outside[0].from_outside)}",
            0.5,
        )
        return
    if any(not np.isfinite(o.out).all() for o in wrong):
        first = next(o for o in wrong if not np.isfinite(o.out).all())
        yield Finding(
            "not_finite",
            f"NaN or infinity: {describe_rows(~np.isfinite(first.out))}",
            f"'{first.case.name}'",
            0.5,
        )
        return
    sizes = [_relative(o) for o in wrong]
    if max(sizes) < 2**-5 and min(sizes) > 2**-14:
        yield Finding(
            "half_precision",
            "the errors are those of half precision (8 to 11 bits) somewhere inside",
            f"relative error {min(sizes):.1e} to {max(sizes):.1e}, in every part of the output",
            0.5,
        )


def _relative(o: Observation) -> float:
    assert o.verdict is not None
    return float(o.verdict.error / np.abs(o.verdict.expected.want).max())


def describe_rows(marked: NDArray[np.bool_]) -> str:
    """Which queries are marked, in words: `queries 32-36 in every head`."""
    rows = np.any(marked, axis=3)  # (batch, n_head, n_q)
    of_any = np.flatnonzero(np.any(rows, axis=(0, 1)))
    ranges = np.split(of_any, np.flatnonzero(np.diff(of_any) > 1) + 1)
    texts = [str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in ranges[:4]]
    queries = f"queries {', '.join(texts)}{', ...' if len(ranges) > 4 else ''}"
    heads = np.any(rows, axis=2)
    if heads.all():
        return f"{queries} in every head"
    b, h = np.argwhere(heads)[0]
    return f"{queries} in {heads.sum()} of {heads.size} heads (first: batch {b}, head {h})"
