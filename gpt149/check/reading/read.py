"""All instruments on the most telling of the failing cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..finding import Finding
from ..observe import Bench, Observation
from .addresses import read_k, read_v
from .mask import read_mask
from .overlap import read_overlap
from .probe import Illegible, Probe
from .rows import read_owners
from .scores import read_scores
from .where import where

Instrument = Callable[[Probe], Iterator[tuple[str, str]]]
# What is asked first is what the later ones take for right.
INSTRUMENTS: tuple[Instrument, ...] = (
    read_mask, read_owners, read_k, read_overlap, read_scores, read_v,
)  # fmt: skip
MOST_CALLS = 300  # of a kernel for its attention matrix
ENOUGH = (8, 24, 16)  # queries, keys, dims: with more, there is nothing more to read


def read(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """What instruments show, the first that shows something; empty if none does."""
    for o in telling(wrong)[:2]:
        probe = Probe(bench, replace(o.case, calls="once"))
        for instrument in INSTRUMENTS:
            try:
                found = list(instrument(probe))
            except Illegible:
                continue
            if found:
                return [_finding(cause, sentence, o) for cause, sentence in found]
    return []


def telling(wrong: Sequence[Observation]) -> list[Observation]:
    """Cases from which most can be read first: enough queries, keys and dims, and no more calls."""

    def worth(o: Observation) -> float:
        c = o.case
        sizes = zip((c.n_q, c.n_kv, c.head_dim), ENOUGH, strict=True)
        legible = float(np.prod([min(1.0, n / enough) for n, enough in sizes]))
        calls = -(-c.n_kv // c.head_dim)
        plain = c.inputs == "normal" and not c.half_kv and c.calls == "once"
        cheap = 1.0 if calls <= MOST_CALLS else 0.0
        return legible * cheap * (1.0 if plain else 0.3) / (1 + 1e-9 * c.work)

    return sorted(wrong, key=worth, reverse=True)


def _finding(cause: str, sentence: str, o: Observation) -> Finding:
    assert o.verdict is not None
    places = where(o.verdict.wrong)
    also = f"; wrong are {places}" if places else ""
    evidence = f"read from its output in '{o.case.name}' ({o.case.describe()}){also}"
    return Finding(cause, sentence, evidence, 1.0)
