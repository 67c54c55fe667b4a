"""All instruments on the most telling of the failing cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..cases import CHANGES_OUT, Case
from ..finding import Finding
from ..observe import Bench, Observation
from .addresses import read_k, read_v
from .carried import read_behind, read_carried
from .landing import read_landing
from .mask import read_dims, read_mask, read_zeros
from .matrix import read_beyond, read_matrix
from .overlap import read_columns, read_dependence, read_overlap
from .peaks import read_hidden_peaks, read_peaks
from .probe import Illegible, Probe
from .rows import read_owners
from .shifts import read_shifts
from .types import read_types
from .values import read_again, read_follows, read_format, read_values
from .variants import read_variant
from .where import when, where

Instrument = Callable[[Probe, Sequence[Probe]], Iterator[tuple[str, str]]]
# What is asked first is what the later ones take for right.
INSTRUMENTS: tuple[Instrument, ...] = (
    read_types, read_behind, read_again, read_follows, read_format, read_landing, read_dims,
    read_owners, read_v, read_overlap, read_columns, read_carried, read_beyond, read_dependence,
    read_k, read_mask, read_zeros, read_matrix, read_hidden_peaks, read_shifts, read_peaks,
    read_values,
)  # fmt: skip
# What small calls may show of a mistake that larger ones show more of.
VAGUE = ("values_off", "scores_ignored", "nothing_of_v", "v_ignored")
MOST_WORK = 3_000_000  # of a passing case that a rule is tried on
MOST_CALLS = 60  # of a kernel for its attention matrix
ENOUGH = (60, 100, 16)  # queries, keys, dims: with more, there is nothing more to read


def read(
    wrong: Sequence[Observation], passed: Sequence[Observation], bench: Bench
) -> list[Finding]:
    """What instruments show, the first that shows something; empty if none does.

    Most take plain calls for granted: where out is another's by a variant, that is read.
    """
    if wrong[0].case.needs & CHANGES_OUT:
        return read_variant(wrong, bench)
    best = telling(wrong)[:3]
    probes = [Probe(bench, replace(o.case, calls="once")) for o in best]
    conditional = bool(when([*wrong, *passed]))
    odd = all(w.case.inputs != "normal" for w in wrong)
    first = (read_hidden_peaks, read_shifts, read_peaks) if odd else ()
    vague: list[Finding] = []
    for o, probe in zip(best, probes, strict=True):
        others = [other for other in probes if other is not probe]
        if not conditional:
            others += [Probe(bench, replace(like, calls="once")) for like in _alike(passed, o.case)]
        for instrument in (*first, *INSTRUMENTS):
            try:
                with np.errstate(all="ignore"):
                    found = list(instrument(probe, others))
            except Illegible:
                continue
            findings = [_finding(cause, said, o) for cause, said in found]
            if findings and found[0][0] in VAGUE:
                vague = findings if not vague or vague[0].cause == VAGUE[0] else vague
                break
            if findings:
                return findings
    return vague


def _alike(passed: Sequence[Observation], case: Case) -> list[Case]:
    """Calls that pass and go the same way, for rules to hold there too."""

    def kind(c: Case) -> tuple[bool, ...]:
        return (c.n_q == 1, c.n_q < c.n_kv, c.causal, c.half_kv)

    alike = [o for o in passed if kind(o.case) == kind(case) and o.case.work < MOST_WORK]
    return [o.case for o in telling(alike)[:2]]


def telling(wrong: Sequence[Observation]) -> list[Observation]:
    """Cases from which most can be read first: enough queries, keys and dims, and no more calls."""

    def worth(o: Observation) -> float:
        c = o.case
        sizes = zip((c.n_q, c.n_kv, c.head_dim), ENOUGH, strict=True)
        legible = float(np.prod([min(1.0, n / enough) for n, enough in sizes]))
        usual = c.inputs == "normal" and not c.half_kv and not c.br and not c.bc
        plain = usual and c.calls == "once" and c.causal
        wrong = float(o.verdict.wrong.mean()) if o.verdict is not None else 0.0
        share = 0.05 + math.sqrt(wrong)
        return share * legible * (1.0 if plain else 0.3) / (1 + 1e-7 * c.work)

    # What lies far apart has no memory around it that could be filled.
    near = [o for o in wrong if o.case.layout != "far"]
    cheap = [o for o in near if o.case.n_kv <= MOST_CALLS * o.case.head_dim]
    return sorted(cheap, key=worth, reverse=True)


def _finding(cause: str, sentence: str, o: Observation) -> Finding:
    assert o.verdict is not None
    evidence = f"read from its output in '{o.case.name}'"
    if places := where(o.verdict.wrong):
        evidence += f"; wrong are {places}"
    return Finding(cause, sentence, evidence, 1.0, o.case.name)
