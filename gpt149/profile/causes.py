"""From evidence to causes: the only place that draws conclusions. Ranked by what each would bring.

A gain is measured where an experiment compared the two; else it is an estimate: a share s of the
time that becomes f times as fast makes the call 1 / (1 - s (1 - 1 / f)) times as fast.
"""

from __future__ import annotations

from collections.abc import Iterator

from .evidence import Cause, Evidence, gain
from .experiments import unsure
from .hot import Part
from .teams import MANY_FAULTS, threads

LEAST_GAIN = 1.08  # less is not worth a line
AS_FAST, NEAR_CEILING = 1.35, 0.4  # times as long as simd: such a kernel has little to gain,
LEAST_BESIDE_SIMD = 1.35  # and this much of it is worth a line
# How many times as fast a part becomes, once mended; of AVX-512's 16 lanes, as kernels of ours.
FACTORS = {
    "scalar_loop": 4.5,
    "scalar_exp": 8.0,
    "horizontal_sums": 3.5,
    "division_in_loop": 2.5,
    "double_arithmetic": 2.2,
    "narrow_vectors": 2.0,
    "no_fma": 1.7,
    "strided_access": 8.0,
    "copies_tensors": 8.0,
    "allocates": 20.0,
    "atomics": 20.0,
    "spills": 1.6,
    "latency_bound": 2.5,
}
TILED = ("copies_tensors", "scalar_loop", "strided_access", "other")
UNVECTORISED = ("scalar_loop", "scalar_exp", "strided_access")
# Of a gain counts: of an estimate, and where it takes another design.
ESTIMATED, DESIGNS = 0.8, {"horizontal_sums": 0.5, "copies_tensors": 0.75}
WORDS = {
    "scalar_loop": "one number at a time: the compiler may not reorder a sum of floats. Say that "
    "it may (#pragma omp simd reduction), or let lanes be queries or keys",
    "scalar_exp": "exp one value at a time: compute it for a whole vector, as csrc/simd.h does",
    "horizontal_sums": "the lanes of a vector are added up for each score: let lanes be queries or "
    "keys instead, see csrc/kernels/simd.cpp",
    "division_in_loop": "a division for each value: multiply by the reciprocal, once a row",
    "double_arithmetic": "calculated in double: half the lanes, and conversions (1.0 is a double)",
    "narrow_vectors": "vectors of {width} floats, and this machine's hold {lanes}",
    "no_fma": "multiplications and additions apart: fused, they are one instruction",
    "strided_access": "numbers are read one by one at a distance: let the innermost loop run along "
    "head_dim",
    "copies_tensors": "moves numbers without calculating: copy once for many queries, or read "
    "where they lie",
    "allocates": "memory is allocated within the call: ask for it in workspace_bytes",
    "spills": "vectors go to the stack and back: the loop wants more registers than there are. "
    "Let it hold fewer sums",
    "latency_bound": "each addition waits for the one before, four cycles: add up in eight sums or "
    "more at once (several queries, several keys)",
    "atomics": "atomic operations or locks within loops: add up in a variable of each thread's own",
}
PASSES = 4  # over all scores: written and read, as scores and as weights
CLIFF_OF_SCORES, NEAR_CLIFF = 1.12, 1.1
MASKED, PERFECT_MASK = 0.78, 0.53  # time of a causal call against a full one
WINDOWED = 1.7  # time of a pair in a window against one without
BETTER_TILE, CLIFF = 0.87, 1.15
SYSTEM = 0.08
WORKING = ("product", "scalar_loop", "horizontal_sums", "narrow_vectors", "no_fma", "latency_bound")
MANY_EXPS, RESCALED, RESCALE = 2.5, 0.3, 8.0
# Queries that share a packed K, at least, and in a tile that is large enough. K: half of k and v.
RECOMPUTED, COPIED, TILE, K_OF_BOTH, PACKED_ONCE = 1.45, 48, 64, 0.5, 1.5
WIDER, BLOCKS = 1.25, 0.75  # what goes with the square of head_dim, and is done again
DENORMAL = 1.15
LEAST_COPIES = 0.15  # of the time
COMPUTE_BOUND, BANDWIDTH_BOUND = 0.5, 0.5  # shares of the ceiling: what is left is not one cause


def causes(evidence: Evidence) -> list[Cause]:
    """The worthiest first. compute_bound or bandwidth_bound alone, where nothing is left."""
    found = [*threads(evidence), *_contract(evidence), *_parts(evidence), *_counts(evidence)]
    f = evidence.found
    near = f.simd is not None and f.busy < AS_FAST * f.simd
    near = near or evidence.share_of_ceiling >= NEAR_CEILING
    least = LEAST_BESIDE_SIMD if near else LEAST_GAIN
    worthy = [c for c in found if c.gain >= least and _weight(c) >= LEAST_GAIN]
    worthy.sort(key=_weight, reverse=True)
    unique = list({cause.name: cause for cause in reversed(worthy)}.values())[::-1]
    return unique or list(_bound(evidence))


def _weight(cause: Cause) -> float:
    """What a cause is ranked by: of its gain, what counts."""
    known = 1.0 if cause.measured else ESTIMATED
    return 1 + (cause.gain - 1) * known * DESIGNS.get(cause.name, 1.0)


def _bound(evidence: Evidence) -> Iterator[Cause]:
    share, (_, by) = evidence.share_of_ceiling, evidence.ceiling
    if by == "arithmetic" and share >= COMPUTE_BOUND:
        yield Cause("compute_bound", 1.0, "it multiplies near what this machine can: nothing left")
    if by == "bytes" and share >= BANDWIDTH_BOUND:
        yield Cause("bandwidth_bound", 1.0, "it reads near what this machine can: nothing left")


def _contract(evidence: Evidence) -> Iterator[Cause]:
    f = evidence.found
    paging = f.system if f.faults >= MANY_FAULTS else 0.0  # takes as long with a mask
    masked = MASKED + (1 - MASKED) * paging
    if f.causal and f.causal.low > masked and not unsure(f.causal):
        yield Cause(
            "masked_work",
            f.causal.median / PERFECT_MASK,
            f"causal takes {f.causal.median:.2f} times as long as full, and should take "
            f"{PERFECT_MASK}: skip the tiles that the mask hides (gpt149_visible)",
            True,
        )
    if f.windowed and f.windowed.low > WINDOWED and not unsure(f.windowed):
        yield Cause(
            "masked_work",
            f.windowed.median,
            f"a pair that the window shows takes {f.windowed.median:.2f} times as long as without "
            "a window: skip the tiles before it",
            True,
        )
    if f.faults >= MANY_FAULTS and f.system > SYSTEM:
        yield Cause(
            "page_faults",
            gain(min(f.system, 0.95), 50),
            f"{f.faults:,.0f} page faults a call: memory is given back and taken anew. Ask for it "
            "in workspace_bytes, which lives from call to call",
            share=f.system,
            place=evidence.place("allocates"),
        )
    if f.unflushed and f.unflushed.low > DENORMAL and not unsure(f.unflushed):
        yield Cause(
            "denormals",
            f.unflushed.median,
            "with numbers below 1e-38 (denormals) taken for 0 it is faster: leave out weights that "
            "small",
            True,
        )
    best = min(f.tiles.items(), key=lambda tile: tile[1].median, default=None)
    if best and best[1].high < BETTER_TILE and not unsure(best[1]):
        (br, bc), ratio = best
        first, last = (f.tiles[size].median for size in (min(f.tiles), max(f.tiles)))
        small = last < first or _copied_often(evidence)
        name = "tile_too_small" if small else "tile_too_large"
        yield Cause(
            name,
            1 / ratio.median,
            f"with br={br} bc={bc} it is faster than with its own tile",
            True,
        )
    cliffs = list(_cliffs(evidence))
    yield from cliffs
    if not cliffs and f.quadratic:
        yield from _scores(evidence)
    elif not cliffs and all(r.median < NEAR_CLIFF for r in (f.shrunk, f.sliced) if r):
        yield from _widths(evidence)  # where no cliff is near: a wider head_dim is beyond it


def _scores(evidence: Evidence) -> Iterator[Cause]:
    """What all scores cost where memory is too slow for any length: no cliff is seen then."""
    f = evidence.found
    n_bytes = PASSES * 4 * f.shape.pairs
    seconds = n_bytes / evidence.ceilings.bandwidth(f.workspace_bytes)
    share = min(seconds / f.busy, 0.9)
    yield Cause(
        "scores_through_memory",
        gain(share, 50),
        f"all scores go through memory, {n_bytes / 1e6:,.0f} MB. Tile, and keep a running softmax",
        share=share,
    )


def _widths(evidence: Evidence) -> Iterator[Cause]:
    """What is done anew for each block of head_dim."""
    wider = evidence.found.narrowed
    if wider is None or wider.low < WIDER or unsure(wider):
        return
    squared = 2 * (1 - 1 / wider.median)  # the share that goes with its square
    yield Cause(
        "recomputed_work",
        1 / (1 - BLOCKS * min(squared, 1.0)),
        f"twice the head_dim takes {2 * wider.median:.1f} times as long: scores are computed again "
        "for each block of columns of the output. Compute them once",
        True,
    )


def _cliffs(evidence: Evidence) -> Iterator[Cause]:
    """What has left the cache when it is read again."""
    f = evidence.found
    known = [r for r in (f.shrunk, f.sliced) if r and not unsure(r)]
    worst = max(known, key=lambda ratio: ratio.low, default=None)
    if worst is None or worst.low < (CLIFF_OF_SCORES if f.quadratic else CLIFF):
        return
    less = "few queries" if worst is f.sliced else "a part of n"
    sentence = f"a pair of query and key takes {worst.median:.2f} times as long as with {less}"
    if f.quadratic:
        name, why = "scores_through_memory", "all scores go through memory. Tile, and keep a "
        why += "running softmax"
    elif "strided_access" in (evidence.parts or {}):
        name, why = "strided_access", "what is read again has left the cache. Tile over keys"
    else:
        name, why = "tile_too_large", "what is read again has left the cache. Take smaller tiles"
    yield Cause(name, worst.median, f"{sentence}: {why}", True)


def _parts(evidence: Evidence) -> Iterator[Cause]:
    """What takes time in loops."""
    parts = evidence.parts or {}
    if _copied_often(evidence):  # then loops are short as well, and their tails scalar
        share = sum(parts[name].share for name in TILED if name in parts)
        tiles = max(1.0, evidence.n_traced / TILE)
        often = evidence.counts.scattered / (K_OF_BOTH * tiles) if evidence.counts else 0.0
        yield Cause(
            "tile_too_small",
            gain(share, max(FACTORS["copies_tensors"], often)),
            "keys or values are copied anew for every few queries: larger tiles of queries",
            False,
            share,
            evidence.place("copies_tensors"),
        )
        parts = {name: part for name, part in parts.items() if name not in TILED}
    for name, part in parts.items():
        if name not in FACTORS or (name == "allocates" and evidence.found.faults >= MANY_FAULTS):
            continue
        factor, sentence = FACTORS[name], WORDS[name]
        if name == "narrow_vectors":
            width = next((loop.width for loop, _ in part.loops.most_common(1)), 1) or 1
            sentence = sentence.format(width=width, lanes=evidence.lanes)
            factor = 1 + (evidence.lanes / width - 1) / 3  # loads take their share
        if name == "division_in_loop":
            scalar = all(loop.width <= 1 for loop, _ in part.loops.most_common(1))
            factor = 2 * factor if scalar else factor
        if name == "scalar_exp":
            sentence += _called(part)
        if name in UNVECTORISED and evidence.record and part.place:
            why = evidence.record.why(part.place)
            sentence += f" (the compiler made no vectors here: {why})" if why else ""
        yield Cause(name, gain(part.share, factor), sentence, False, part.share, part.place)


def _copied_often(evidence: Evidence) -> bool:
    """Whether K or V is brought into another order anew, for every few queries."""
    counts, copies = evidence.counts, (evidence.parts or {}).get("copies_tensors")
    if counts is None or copies is None or copies.share < LEAST_COPIES:
        return False
    least = max(PACKED_ONCE, evidence.n_traced / COPIED, counts.copied / 2)
    return counts.scattered >= least  # else it is what is copied as it lies that takes time


def _called(part: Part) -> str:
    name = next((name for name, _ in part.called.most_common(1) if name), "")
    return f" (it calls {name})" if name else ""


def _counts(evidence: Evidence) -> Iterator[Cause]:
    counts, parts = evidence.counts, evidence.parts
    if counts is None or parts is None:
        return
    share = sum(parts[name].share for name in WORKING if name in parts)
    place = evidence.place("product") or evidence.place("scalar_loop")
    if counts.multiplied >= RECOMPUTED:
        yield Cause(
            "recomputed_work",
            gain(share, counts.multiplied),
            f"{counts.multiplied:.1f} times the multiplications that are needed: scores are "
            "computed more than once, or padding is. A running softmax needs them once",
            False,
            share,
            place,
        )
    if counts.exps >= MANY_EXPS and "scalar_exp" in parts:
        exps = parts["scalar_exp"]
        yield Cause(
            "recomputed_work",
            gain(exps.share, counts.exps),
            f"exp is computed {counts.exps:.1f} times for each pair of query and key: keep it",
            False,
            exps.share,
            exps.place,
        )
    if counts.rescaled >= RESCALED:
        yield Cause(
            "tile_too_small",
            gain(share * counts.rescaled / (counts.multiplied + counts.rescaled), RESCALE),
            "the output is rescaled for every few keys: take in more keys at once",
            False,
            place=place,
        )
