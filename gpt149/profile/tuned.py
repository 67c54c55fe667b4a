"""What `tune` found, in words and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..system.words import duration, in_shell
from .tune import Entrant, Setting, Tuned

COLUMNS = ("br", "bc", "threads", "time", "of its own tile", "")
MOST_OUT = 5


def as_text(spec: str, tuned: Tuned) -> str:
    """A table of the finalists, who did not start, and the line to paste."""
    if tuned.own.out:
        return (
            f"WRONG {spec}: with its own tile, {tuned.own.out}, so there is nothing to tune yet. "
            f"Why: gpt149 check {in_shell(spec)}"
        )
    n = len(tuned.finalists) + len(tuned.others) + len(tuned.out)
    text = [
        f"{spec}, {tuned.shape.name}: {n} settings judged, then timed in turn{_smaller(tuned)}. "
        "Times are CPU time of the busiest thread."
    ]
    rows = [COLUMNS, *(_row(entrant, tuned) for entrant in tuned.finalists)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        cells = [cell.rjust(w) for cell, w in zip(row[:-1], widths, strict=False)]
        text.append(f"  {'  '.join(cells)}  {row[-1]}".rstrip())
    if tuned.others:
        first, last = tuned.others[0], tuned.others[-1]
        text.append(
            f"  {len(tuned.others)} more were left behind, from {_time(first)} to {_time(last)}."
        )
    for entrant in tuned.out[:MOST_OUT]:
        text.append(
            f"  {'WRONG' if entrant.wrong else 'Declined'} {_tile(entrant)}: {entrant.out}."
        )
    if len(tuned.out) > MOST_OUT:
        text.append(f"  And {len(tuned.out) - MOST_OUT} more that did not start.")
    if any(entrant.wrong for entrant in tuned.out):
        text.append(f"  It is wrong with some tiles. Why: gpt149 check {in_shell(spec)}")
    text.append(f"  {_verdict(tuned)}")
    if tuned.best is not tuned.own:
        text.append(f"  {command(spec, tuned.best.setting)}")
    return "\n".join(text)


def command(spec: str, s: Setting) -> str:
    """The line to paste."""
    tile = "" if s.own else f" --br {s.br} --bc {s.bc}"
    return f'gpt149 generate "ROMEO:" -a {in_shell(spec)}{tile} --threads {s.n_threads}'


def _verdict(tuned: Tuned) -> str:
    if tuned.best is not tuned.own:
        gain = tuned.best.against(tuned.own)
        wins, n = tuned.best.wins(tuned.own), len(tuned.own.samples)
        return f"{gain.median:.2f}x as fast as its own tile, and faster in {wins} of {n} rounds:"
    if tuned.noisy:
        return (
            "Noisy: rounds contradict each other, so nothing is recommended. Try again beside less "
            "other work."
        )
    if tuned.indifferent:
        return (
            "No tile makes a difference: leave --br and --bc out, or let the kernel look at them."
        )
    return "Nothing beats its own tile beyond the noise: leave --br and --bc out."


def _smaller(tuned: Tuned) -> str:
    """What was timed instead of the shape, where that takes too long."""
    shape, case = tuned.shape, tuned.timed
    parts = []
    if case.n_head < shape.n_head:
        parts.append(f"{case.n_head} of {shape.n_head} heads")
    if case.n_kv < shape.n_kv:
        parts.append(f"{case.n_kv:,} of {shape.n_kv:,} keys")
    return f" with {' and '.join(parts)}" if parts else ""


def _row(entrant: Entrant, tuned: Tuned) -> Sequence[str]:
    s, ratio = entrant.setting, entrant.against(tuned.own)
    size = ["own" if not n else str(n) for n in (s.br, s.bc)]
    if entrant is tuned.own:
        return (*size, str(s.n_threads), _time(entrant), "1.00x", "")
    apart = entrant.beats(tuned.own) or tuned.own.beats(entrant)
    within = "" if apart else "within the noise"
    said = f"{ratio.median:.2f}x ({ratio.low:.2f} to {ratio.high:.2f})"
    return (*size, str(s.n_threads), _time(entrant), said, within)


def _time(entrant: Entrant) -> str:
    return duration(entrant.seconds)


def _tile(entrant: Entrant) -> str:
    s = entrant.setting
    return f"br={s.br} bc={s.bc} threads={s.n_threads}"


def as_json(spec: str, tuned: Tuned) -> dict[str, Any]:
    """The same; `recommended` is None where its own tile is as good as any."""
    best = None if tuned.own.out or tuned.best is tuned.own else tuned.best
    return {
        "kernel": spec,
        "shape": tuned.shape.name,
        "timed": {name: getattr(tuned.timed, name) for name in ("n_head", "n_q", "n_kv")},
        "finalists": [_entry(e) | _ratio(e, tuned) for e in tuned.finalists],
        "others": [_entry(e) for e in tuned.others],
        "out": [_entry(e) for e in tuned.out],
        "recommended": _entry(best) if best else None,
        "command": command(spec, best.setting) if best else None,
        "verdict": None if tuned.own.out else _verdict(tuned).rstrip(":"),
    }


def _entry(entrant: Entrant) -> dict[str, Any]:
    seconds = entrant.seconds if entrant.samples else None
    return {**vars(entrant.setting), "seconds": seconds, "out": entrant.out, "wrong": entrant.wrong}


def _ratio(entrant: Entrant, tuned: Tuned) -> dict[str, Any]:
    return {"of_own": list(vars(entrant.against(tuned.own)).values())}
