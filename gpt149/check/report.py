"""A report in words a person can act on, a picture of the error, and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.abi import Feature
from ..system.words import duration, in_shell, one_line
from .cases import SEED, Case
from .finding import Finding, describe_rows
from .isolation import Answer
from .judge import SLACK, SMALLEST, Verdict
from .observe import Observation
from .run import Report
from .sanitize import MemoryFault

SHADES = " .:-=+*#%@"
SANITIZER_LINES = re.compile(r"ERROR:|runtime error|is located|^allocated by|(READ|WRITE) of size")
MOST_FAULT_LINES = 12
MANY = 1e9
PICTURE_ROWS, PICTURE_COLUMNS = 16, 48


def as_text(spec: str, report: Report, *, rerun: str = "", flags: str = "") -> str:
    """The verdict, and where it is FAIL, what is wrong, why, and how to see it again.

    rerun: the command that a case's name is put behind, if it is not `gpt149 check`. flags:
    what else that one is given.
    """
    rerun = rerun or f"gpt149 check {in_shell(spec)}{flags}{_seed(report)} --case"
    if report.right:
        return f"PASS {spec}: {len(report.observations)} cases in {duration(report.seconds)}. " + (
            (_excuse(report) if report.excused else _precision(report)) + _notes(report)
        )
    if not report.failed and report.fault is not None:
        return _memory_fault(spec, report.fault) + _notes(report)
    told = report.findings[0].case if report.findings else ""
    shown = min(report.failed, key=lambda o: (o.case.name != told, not o.wrong, o.case.work))
    label = "Shown" if shown.case.name == told else "Smallest"
    lines = [f"FAIL {spec}: {len(report.failed)} of {len(report.observations)} cases."]
    lines += _causes(report.findings)
    if report.where and report.fault is None:
        lines.append(f"  Where: {report.where}.")
    if report.fault is not None:
        lines += _memory_fault(spec, report.fault).splitlines()
    if shown.verdict is not None and not shown.verdict.passed:
        lines += [f"  {label}: {shown.case.describe()}", *_values(shown, shown.verdict)]
    if report.left_out:
        why = _why_left_out(report.observations[-1].answer)
        lines.append(f"  Not run, since {why}: {', '.join(report.left_out[:5])}, ...")
    for observation in report.failed:
        if observation.answer.stack:
            lines.append(f"  Stack of '{observation.case.name}':\n{observation.answer.stack}")
            break
    lines.append(f"  Rerun: {rerun} {shown.case.name}")
    return "\n".join(lines) + _notes(report)


def _causes(findings: Sequence[Finding]) -> Iterator[str]:
    """The likeliest and what it may be instead; of each other variant that is wrong, the first."""
    by_variant = dict[str, list[Finding]]()
    for finding in findings:
        by_variant.setdefault(finding.of, []).append(finding)
    for n, found in enumerate(by_variant.values()):
        for i, finding in enumerate(found[: 1 if n else 3]):
            of_some = "In some cases" if finding.partial else ""
            lead = "  or " if i else of_some or ("And" if n else "Cause")
            detail = f" ({finding.evidence})" if finding.evidence else ""
            yield f"  {lead}: {finding.cause}: {finding.sentence}{detail}."


def _seed(report: Report) -> str:
    """The flag that draws the report's cases, if they are not the usual ones."""
    seeds = {o.case.seed for o in report.observations} - {SEED}
    return f" --seed {min(seeds)}" if seeds else ""


def _why_left_out(last: Answer) -> str:
    return "it does not load" if last.phase == "load" else "too many hung or crashed"


def _memory_fault(spec: str, fault: MemoryFault) -> str:
    """What the sanitizers said, of their output the lines about the kernel's own source."""
    where = f" at {fault.place}" if fault.place else ""
    file = fault.place.partition(":")[0]
    lines = fault.output.strip().splitlines()
    own = [line for line in lines if SANITIZER_LINES.search(line) or (file and f"/{file}:" in line)]
    output = "\n".join(f"  {line}" for line in (own or lines)[:MOST_FAULT_LINES])
    return (
        f"FAIL {spec}: {fault.what}{where}, in case {fault.case.name} ({fault.case.describe()}).\n"
        f"{output}"
    )


def as_json(spec: str, report: Report) -> dict[str, Any]:
    """Everything of a report that is not an array."""
    return {
        "kernel": spec,
        "right": report.right,
        "seconds": report.seconds,
        "memory_fault": vars(report.fault) | {"case": report.fault.case.name}
        if report.fault
        else None,
        "speed": {"shape": report.speed.case.describe(), "seconds": report.speed.seconds}
        if report.speed
        else None,
        "findings": [vars(f) for f in report.findings],
        "notes": [vars(f) for f in report.notes],
        "where": report.where,
        "claimed": asked_of(report),
        "left_out": list(report.left_out),
        "too_long": list(report.too_long),
        "unmapped": list(report.unmapped),
        "noise": report.noise[:1000],
        "cases": [_case_as_json(o) for o in report.observations],
    }


def _case_as_json(o: Observation) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "case": o.case.name,
        "shape": o.case.describe(),
        "seed": o.case.seed,
        "passed": o.passed,
        "outcome": o.answer.outcome,
        "detail": o.answer.detail,
        "workspace_bytes": o.answer.workspace_bytes,
        "changed_inputs": list(o.changed_inputs),
        "written_outside": o.written_outside is not None,
        "workspace_overrun": o.answer.workspace_overrun,
    }
    if o.verdict is not None:
        error = o.verdict.error
        entry |= {
            "n_wrong": int(o.verdict.wrong.sum()),
            "n_wrong_lse": int(o.verdict.lse_wrong.sum()),
            "error": error if np.isfinite(error) else None,
            "tolerance": o.verdict.tolerance,
            "ratio": o.verdict.ratio if np.isfinite(error) else None,
        }
    return entry


def _precision(report: Report) -> str:
    worst = max(
        (o for o in report.observations if o.verdict is not None),
        key=lambda o: o.verdict.ratio if o.verdict else 0,
    )
    assert worst.verdict is not None
    return (
        f"Largest error {worst.verdict.ratio:.1f}x what {_dtype(worst.case)} rounding explains: "
        "precision is fine, double would change nothing."
    )


def _dtype(case: Case) -> str:
    """Whose rounding bounds the error."""
    return "bfloat16" if case.half_kv else "float32"


def _excuse(report: Report) -> str:
    finding, worst = report.findings[0], max(report.failed, key=lambda o: o.case.work)
    return (
        f"In {len(report.failed)} of them rounding is larger than need be: {finding.sentence} (the "
        f"largest such: {worst.case.describe()})."
    )


def _values(o: Observation, verdict: Verdict) -> list[str]:
    """How many values are wrong, which, by how much, and a picture."""
    if not verdict.wrong.any():
        return _lse_values(o, verdict)
    first = tuple(int(i) for i in np.argwhere(verdict.wrong)[0])
    got, want = float(o.out[first]), float(verdict.expected.want[first])
    b, h, i, x = first
    never = " (never written)" if o.unwritten[first] else ""
    lines = [
        f"  {int(verdict.wrong.sum())} of {verdict.wrong.size} values are wrong, first at (batch "
        f"{b}, head {h}, query {i}, dim {x}): got {got:.6g}{never}, want {want:.6g}."
    ]
    if verdict.tolerance < SMALLEST:
        lines.append("  A query that sees no key gets zeros, exactly.")
    elif np.isfinite(verdict.error) and verdict.ratio > SLACK:
        ratio = verdict.ratio
        times = f"{ratio:,.0f}" if ratio < MANY else f"{ratio:.0e}"
        lines.append(
            f"  Error {verdict.error:.2g} is {times} times what {_dtype(o.case)} rounding "
            "explains at this size: this is a bug, not precision."
        )
    right = ~np.any(verdict.wrong, axis=(0, 1, 3), keepdims=True)
    if right.any():
        lines.append(f"  Right: {describe_rows(right)}.")
    title = f"  |error| of batch {b}, head {h} over query (down) and dim (across):"
    return [*lines, title, *_picture(verdict.ratios[b, h] / SLACK)]


def _lse_values(o: Observation, verdict: Verdict) -> list[str]:
    """The same of lse, where out is right."""
    assert o.lse is not None
    wrong = verdict.lse_wrong
    b, h, i = (int(n) for n in np.argwhere(wrong)[0])
    return [
        f"  {int(wrong.sum())} of {wrong.size} values of lse are wrong, first at (batch {b}, head "
        f"{h}, query {i}): got {o.lse[b, h, i]:.6g}, want {verdict.expected.lse[b, h, i]:.6g}; out "
        "is right."
    ]


def _picture(excess: NDArray[np.float64]) -> list[str]:
    """A heat map in characters: blank is right, @ is the largest excess or NaN."""
    rows = np.array_split(np.arange(excess.shape[0]), min(PICTURE_ROWS, excess.shape[0]))
    columns = np.array_split(np.arange(excess.shape[1]), min(PICTURE_COLUMNS, excess.shape[1]))
    filled = np.where(np.isnan(excess), np.inf, excess)
    cells = np.array([[filled[np.ix_(r, c)].max() for c in columns] for r in rows])
    finite = cells[np.isfinite(cells)]
    top = max(float(finite.max(initial=0)), 2.0)
    depth = np.log(np.clip(cells, 1, top)) / np.log(top)
    level = np.where(cells <= 1, 0, 1 + np.round(depth * (len(SHADES) - 2)))
    return [
        f"  {r[0]:>5} |{''.join(SHADES[int(n)] for n in line)}|"
        for r, line in zip(rows, level, strict=True)
    ]


def asked_of(report: Report) -> dict[str, int]:
    """How many cases were asked of each feature that the kernel claims, by its name."""
    return {
        str(feature.name): sum(bool(o.case.needs & feature) for o in report.observations)
        for feature in Feature
        if feature & report.claimed
    }


def _notes(report: Report) -> str:
    lines = []
    if report.claimed and len(report.observations) > 1:
        asked = ", ".join(f"{name} ({n})" for name, n in asked_of(report).items())
        lines.append(f"Claimed, and asked in so many cases: {asked}.")
    if report.speed:
        s = report.speed
        lines.append(
            f"Speed: {duration(s.seconds)}, {s.gflop_s:.1f} GFLOP/s at {s.case.describe()}."
        )
    if report.too_long:
        lines.append(
            f"Not asked, since this kernel would need minutes: {', '.join(report.too_long)}."
        )
    if report.unmapped:
        lines.append(
            "Not asked, since this machine does not map a sparse file of "
            f"100 GB: {', '.join(report.unmapped)}."
        )
    if report.noise.strip():
        first = one_line(report.noise.strip().splitlines()[0], 80)
        lines.append(f"Note: it prints {len(report.noise):,} characters, first: {first}")
    for finding in report.notes:
        evidence = f" ({finding.evidence})" if finding.evidence else ""
        lines.append(f"Note: {finding.sentence}{evidence}.")
    grown = max((o.answer.peak_growth for o in report.observations), default=0)
    if grown > 64 << 20:
        lines.append(f"Note: besides its workspace it took {grown >> 20} MiB of memory.")
    return "".join(f"\n  {line}" for line in lines)
