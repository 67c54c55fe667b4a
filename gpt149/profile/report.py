"""Profiles in words, and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..system.words import duration
from .causes import COMPUTE_BOUND
from .evidence import Cause
from .experiments import Found, unsure
from .run import Profile

MOST_CAUSES, MOST_LINES = 4, 5
SHARED = 1.3  # times as long by the clock as of CPU time
BOUND = ("compute_bound", "bandwidth_bound")


def as_text(spec: str, profiles: Sequence[Profile]) -> str:
    return "\n\n".join(_one(spec, profile) for profile in profiles)


def is_slow(p: Profile) -> bool:
    """Whether there is a cause to mend."""
    return bool(p.causes) and p.causes[0].name not in BOUND


def headline(spec: str, p: Profile) -> str:
    """The verdict, the time, and the share of the machine's ceiling."""
    f, by = p.found, p.evidence.ceiling[1]
    verb = "multiplies" if by == "arithmetic" else "reads"
    return (
        f"{'SLOW' if is_slow(p) else 'OK'} {spec}: {f.shape.name} takes {duration(f.busy)} with "
        f"{f.n_threads} threads{_shared(f)}, {p.evidence.share_of_ceiling:.0%} of what this "
        f"machine {verb} at most{_beside_simd(f)}."
    )


def _one(spec: str, p: Profile) -> str:
    share, slow = p.evidence.share_of_ceiling, is_slow(p)
    text = [headline(spec, p)]
    text += [f"  {n}. {_said(c)}" for n, c in enumerate(p.causes[:MOST_CAUSES], start=1)]
    if not p.causes:
        spread = "spread out" if p.evidence.parts is not None else "nothing that experiments show"
        left = f": what is left is {spread}." if share < COMPUTE_BOUND else ", and little left."
        text.append(f"  No cause found{left}")
    text += [f"  Also: {note}" for note in notes(p)]
    if slow and p.lines:
        hot = ", ".join(f"{place} {share:.0%}" for place, share in p.lines[:MOST_LINES])
        text.append(f"  Lines of one thread: {hot}.")
    text += filter(None, [_counters(p)])
    text += [f"  Not seen: {sentence}." for sentence in p.unseen]
    return "\n".join(text)


def _beside_simd(f: Found) -> str:
    return f"; simd takes {duration(f.simd)}" if f.simd else ""


def _counters(p: Profile) -> str:
    c = p.evidence.counters
    if c is None or not c.cycles or not c.instructions:
        return ""
    misses = 1000 * c.cache_misses / c.instructions
    return (
        f"  Counters: {c.instructions / c.cycles:.1f} instructions a cycle, {misses:.1f} cache "
        "misses for 1,000 instructions, with one thread."
    )


def _shared(f: Found) -> str:
    """How long it takes here, where others use the processors as well."""
    busy_machine = f.seconds > SHARED * f.busy
    return f" ({duration(f.seconds)} beside what else runs here)" if busy_machine else ""


def first_cause(p: Profile) -> str:
    """What mending would bring most, in a line."""
    if not p.causes:
        return (
            f"No cause of slowness is found, at {p.evidence.share_of_ceiling:.0%} of the ceiling."
        )
    return f"{'Slow' if is_slow(p) else 'Fast'}: {_said(p.causes[0])}"


def _said(cause: Cause) -> str:
    share = f", {cause.share:.0%} of the time" if cause.share is not None else ""
    place = f" ({cause.place})" if cause.place else ""
    return f"{cause.name}{share}{place}: {cause.sentence}.{worth(cause)}"


def worth(cause: Cause) -> str:
    """What mending it would bring; "" if nothing."""
    if cause.gain <= 1:
        return ""
    return f" Worth about {cause.gain:.2g}x, {'measured' if cause.measured else 'an estimate'}."


def notes(p: Profile) -> list[str]:
    """What costs nothing on this shape, and much on others; and what was too noisy to say."""
    f, found = p.found, []
    for ratio, what, limit in (
        (f.odd, f"head_dim {f.shape.head_dim + 1} takes {{:.1f}} times as long for its size", 1.5),
        (f.model, "strides as in a model take {:.1f} times as long", 1.25),
        (f.denormal, "weights below 1e-38 (denormals) take {:.1f} times as long", 1.5),
    ):
        if ratio and ratio.low > limit:
            found.append(what.format(ratio.median) + ".")
    pairs = {
        "causal": f.causal,
        "a part of n": f.shrunk,
        "few queries": f.sliced,
        "all threads": f.inflation,
    }
    pairs["denormals"] = f.unflushed
    noisy = [name for name, ratio in pairs.items() if ratio and unsure(ratio)]
    if noisy:
        found.append(f"noisy, so nothing is said of: {', '.join(noisy)}.")
    return found


def as_json(spec: str, profiles: Sequence[Profile]) -> dict[str, Any]:
    return {"kernel": spec, "shapes": [_entry(p) for p in profiles]}


def _entry(p: Profile) -> dict[str, Any]:
    f = p.found
    return {
        "shape": f.shape.name,
        "n_threads": f.n_threads,
        "seconds": f.busy,
        "seconds_by_the_clock": f.seconds,
        "simd_seconds": f.simd,
        "counters": vars(p.evidence.counters) if p.evidence.counters else None,
        "share_of_ceiling": p.evidence.share_of_ceiling,
        "ceiling": p.evidence.ceiling[1],
        "causes": [
            {
                "name": c.name,
                "gain": c.gain,
                "measured": c.measured,
                "share": c.share,
                "line": str(c.place) if c.place else None,
                "sentence": c.sentence,
            }
            for c in p.causes
        ],
        "parts": {name: part.share for name, part in (p.evidence.parts or {}).items()},
        "lines": [[str(place), share] for place, share in p.lines],
        "notes": notes(p),
        "unseen": list(p.unseen),
    }
