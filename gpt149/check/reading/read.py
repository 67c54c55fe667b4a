"""All instruments on the most telling of the failing cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..finding import Finding
from ..observe import Bench, Observation
from .addresses import read_k, read_v
from .landing import read_landing
from .mask import read_dims, read_mask
from .overlap import read_overlap
from .probe import Illegible, Probe
from .rows import read_owners
from .scores import read_scores
from .shifts import read_shifts
from .values import read_again, read_format, read_values
from .where import when, where

Instrument = Callable[[Probe, Sequence[Probe]], Iterator[tuple[str, str]]]
# What is asked first is what the later ones take for right.
INSTRUMENTS: tuple[Instrument, ...] = (
    read_again, read_format, read_landing, read_dims, read_mask, read_owners, read_k, read_overlap,
    read_scores, read_v, read_shifts, read_values,
)  # fmt: skip
MOST_WORK = 3_000_000  # of a passing case that a rule is tried on
MOST_CALLS = 60  # of a kernel for its attention matrix
ENOUGH = (60, 100, 16)  # queries, keys, dims: with more, there is nothing more to read


def read(
    wrong: Sequence[Observation], passed: Sequence[Observation], bench: Bench
) -> list[Finding]:
    """What instruments show, the first that shows something; empty if none does."""
    best = telling(wrong)[:3]
    probes = [Probe(bench, replace(o.case, calls="once")) for o in best]
    chunks = [o for o in passed if 1 < o.case.n_q < o.case.n_kv and o.case.work < MOST_WORK]
    others = [Probe(bench, replace(o.case, calls="once")) for o in telling(chunks)[:2]]
    for o, probe in zip(best, probes, strict=True):
        more = [other for other in probes if other is not probe] + others
        first = (read_shifts,) if all(w.case.inputs != "normal" for w in wrong) else ()
        for instrument in (*first, *INSTRUMENTS):
            try:
                with np.errstate(all="ignore"):
                    found = list(instrument(probe, more))
            except Illegible:
                continue
            if found:
                return [_finding(cause, said, o, [*wrong, *passed]) for cause, said in found]
    return []


def telling(wrong: Sequence[Observation]) -> list[Observation]:
    """Cases from which most can be read first: enough queries, keys and dims, and no more calls."""

    def worth(o: Observation) -> float:
        c = o.case
        sizes = zip((c.n_q, c.n_kv, c.head_dim), ENOUGH, strict=True)
        legible = float(np.prod([min(1.0, n / enough) for n, enough in sizes]))
        calls = -(-c.n_kv // c.head_dim)
        usual = c.inputs == "normal" and not c.half_kv and not c.br and not c.bc
        plain = usual and c.calls == "once" and c.causal
        cheap = 1.0 if calls <= MOST_CALLS else 0.0
        share = 0.05 + (float(o.verdict.wrong.mean()) if o.verdict is not None else 0.0)
        return share * legible * cheap * (1.0 if plain else 0.3) / (1 + 1e-7 * c.work)

    # What lies far apart has no memory around it that could be filled.
    near = [o for o in wrong if o.case.layout != "far"]
    return sorted(near, key=worth, reverse=True)


def _finding(cause: str, sentence: str, o: Observation, all_: Sequence[Observation]) -> Finding:
    assert o.verdict is not None
    evidence = f"read from its output in '{o.case.name}' ({o.case.describe()})"
    if places := where(o.verdict.wrong):
        evidence += f"; wrong are {places}"
    if predicate := when(all_):
        evidence += f"; cases fail exactly where {predicate[0]}"
    return Finding(cause, sentence, evidence, 1.0)
