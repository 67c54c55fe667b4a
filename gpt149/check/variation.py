"""Where calls are wrong only with a variant: what is wrong in it, and what is wrong in lse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..kernels.abi import FIELD, IN_WORDS, Feature
from .arena import POISON
from .cases import FIELDS, Case
from .finding import Finding
from .judge import SLACK, cut_off
from .mistakes import right
from .mistakes.lse import lses
from .observe import Bench, Observation
from .reading.logsum import read_counts, read_lse
from .reading.words import ranges

MATCH = 64.0  # as in predictions
FAR = 80.0
LARGE = 1000  # values of out, of which some are rounded
MOST_DIMS = 0.9  # are as good as all
HALF = 0.5  # of the failing cases: what explains no more of them may do so by chance
# What says little: the variant's name says more.
UNSAID = ("unknown", "not_finite", "reads_outside", "values_off", "scores_ignored", "nothing_of_v",
         "weights_off", "exp_wrong", "keys_lost")  # fmt: skip


def by_variant(
    wrong: Sequence[Observation], found: Sequence[Finding], bench: Bench
) -> list[Finding]:
    """What is known of calls that need the same variants, and what reading these says of it.

    found: by the instruments that serve calls without them, too.
    """
    first = [*_widths(wrong), *_dtypes(wrong), *_hidden(wrong)]
    told = bool(found) and found[0].cause not in UNSAID and found[0].share > HALF
    if told and (not first or found[0].cause.startswith("hidden_rows")):
        return list(found)
    alone = list(_alone(wrong, bench))
    return [*first, *found, *alone] if told else [*first, *alone, *found]


def _widths(wrong: Sequence[Observation]) -> Iterator[Finding]:
    """Is head_dim_v taken for head_dim? Then dims are not written, or too many are."""
    wide = [o for o in wrong if o.case.head_dim_v > o.case.head_dim]
    narrow = [o for o in wrong if 0 < o.case.head_dim_v < o.case.head_dim]
    unset = [o for o in wide if o.unwritten[..., o.case.head_dim :].all()]
    zeros = [o for o in wide if not o.out[..., o.case.head_dim :].any()]
    outside = [o for o in narrow if o.written_outside is not None]
    for hit, of, what in (
        (unset, wide, "dims from head_dim on are never written"),
        (zeros, wide, "dims from head_dim on are zeros"),
        (outside, narrow, "it writes behind the end of rows"),
    ):
        if hit and len(hit) == len(of):
            yield Finding(
                "head_dim_v_ignored",
                "head_dim_v is ignored: rows of v and out are taken to have head_dim elements, "
                f"and {what}",
                f"in {len(hit)} of {len(of)} cases, here in '{hit[0].case.name}'",
                1.0,
                hit[0].case.name,
            )
            return


def _dtypes(wrong: Sequence[Observation]) -> Iterator[Finding]:
    """Is bfloat16 taken for float32, or its last bits cut off?"""
    half = [o for o in wrong if o.case.half]
    if not half:
        return
    outside = [o for o in half if o.written_outside is not None]
    if len(outside) > 0.5 * len(half):
        yield Finding(
            "dtype_ignored",
            "q or out in bfloat16 (dtype) are taken to be float32: twice as much is written as out "
            "has",
            f"in {len(outside)} of {len(half)} cases",
            1.0,
            outside[0].case.name,
        )
        return
    large = [o for o in half if o.out.size > LARGE]
    cut = [dims for o in large if len(dims := _cut_dims(o))]
    if large and len(cut) == len(large):
        most = len(cut[0]) > MOST_DIMS * large[0].out.shape[-1]  # a small one may round up anyway
        some = "" if most else f" of dims {ranges(cut[0])}"
        yield Finding(
            "out_truncated",
            f"out is not rounded to the nearest bfloat16: its last bits are cut off, so that all "
            f"values{some} are too small",
            f"in {len(half)} of {len(half)} cases",
            1.0,
            large[0].case.name,
        )


def _cut_dims(o: Observation) -> NDArray[np.intp]:
    """The dims of out that are cut off, and not rounded."""
    assert o.verdict is not None
    cut = cut_off(o.out.astype(np.float64), o.verdict.expected.want)
    return np.flatnonzero(cut.any(tuple(range(cut.ndim - 1))))


def _hidden(wrong: Sequence[Observation]) -> Iterator[Finding]:
    """Are only the rows wrong that see no key?"""

    def alone(o: Observation) -> bool:
        if o.verdict is None:
            return False
        hidden = ~o.verdict.expected.want.any(-1, keepdims=True)
        return bool((~o.verdict.wrong | hidden).all())

    if not (all(o.case.kv_begin for o in wrong) and all(map(alone, wrong))):
        return
    values = np.concatenate([o.out[o.verdict.wrong] for o in wrong if o.verdict is not None])
    unset = all(o.unwritten[o.verdict.wrong].all() for o in wrong if o.verdict is not None)
    nan = not np.isfinite(values).any()
    cause = "unwritten" if unset else "nan" if nan else "wrong"
    what = {"unwritten": "is never written", "nan": "gets NaN", "wrong": "gets something else"}
    yield Finding(
        f"hidden_rows_{cause}",
        f"the row of a query from which every key is hidden {what[cause]}, and must be zeros; all "
        "others are right",
        f"in {len(wrong)} of {len(wrong)} failing cases, here in '{wrong[0].case.name}'",
        1.0,
        wrong[0].case.name,
    )


def _alone(wrong: Sequence[Observation], bench: Bench) -> Iterator[Finding]:
    """Is the same call right without one of the variants?"""
    case = wrong[0].case
    for field, feature in FIELDS.items():
        if not getattr(case, field) or (field == "half_kv" and case.half):
            continue
        if bench.observe(without(case, feature)).passed:
            yield Finding(
                f"{CAUSES[feature]}_wrong",
                f"what is computed for {IN_WORDS[feature]} is wrong: the same call without is "
                "right",
                f"in '{case.name}'",
                1.0,
                case.name,
            )


def without(case: Case, feature: Feature) -> Case:
    """The same call without one of its variants; queries in bfloat16 leave with their keys."""
    field = next(name for name, one in FIELDS.items() if one == feature)
    others = {"half_kv": False} if field == "half" else {}
    return replace(case, **{field: type(getattr(case, field))(0), "calls": "once", **others})


CAUSES = {**FIELD, Feature.ALIBI: "slopes"}


# What of a feature's name is in a sentence that speaks of it.
STEMS = {
    Feature.WINDOW: "window",
    Feature.SOFTCAP: "softcap",
    Feature.ALIBI: "slope",
    Feature.SINKS: "sink",
    Feature.KV_BEGIN: "kv_begin",
    Feature.HEAD_DIM_V: "head_dim_v",
    Feature.LSE: "lse",
    Feature.KV_BFLOAT16: "bfloat16",
    Feature.Q_BFLOAT16: "bfloat16",
}


def name_of(needed: Feature) -> str:
    """Of the features, such as `window + sinks`."""
    return " + ".join(CAUSES[feature] for feature in Feature if feature & needed)


def naming(needed: Feature, findings: Sequence[Finding]) -> list[Finding]:
    """The findings, the first with what all failing calls need and it does not speak of."""
    if not findings:
        return []
    first = findings[0]
    said = f"{first.cause} {first.sentence}"
    features = [f for f in Feature if f & needed and STEMS[f] not in said]
    if features:
        words = " and ".join(IN_WORDS[feature] for feature in features)
        first = replace(first, sentence=f"{first.sentence}; only in calls with {words}")
    return [first, *findings[1:]]


def by_lse(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Of calls whose out is right and whose lse is not: which other number is it?"""
    if not wrong:
        return []
    wrong = sorted(wrong, key=lambda o: (_n_needs(o), o.case.work))
    some = [o for o in wrong if _n_needs(o) == _n_needs(wrong[0])]
    explained = Counter[tuple[str, str]]()
    for o in some:
        explained.update(_lse_hypotheses(o))
    said = [
        Finding(cause, sentence, f"in {n} of {len(some)} failing cases", n / len(some),
                some[0].case.name, "lse")
        for (cause, sentence), n in explained.most_common(2)
    ]  # fmt: skip
    if said and said[0].share > HALF:
        return said
    telling = [o for o in some if o.case.n_q > 3 and o.case.inputs == "normal"]
    return [_lse_unknown((telling or some)[0], bench)]


def _n_needs(o: Observation) -> int:
    return int(o.case.needs).bit_count()


def _lse_hypotheses(o: Observation) -> set[tuple[str, str]]:
    assert o.verdict is not None
    assert o.lse is not None
    expected, lse = o.verdict.expected, o.lse.astype(np.float64)
    unset = o.lse.view(np.uint32) == POISON
    if unset.all():
        return {("lse_not_written", "lse is claimed and never written")}
    if unset.any():
        said = "lse is written elsewhere than where its strides (batch, head) say, or not for all"
        return {("lse_strides", f"{said} rows")}
    allowed = MATCH * SLACK * expected.lse_rounding
    setup = right(o.case, *(t.astype(np.float64) for t in (o.q, o.k, o.v)))
    # Below a sink that is far above all scores, exponentials vanish.
    mild = np.ones(o.case.n_head, bool) if setup.sinks is None else setup.sinks < FAR
    found = set()
    for cause, sentence, predicted in lses(o.case, setup):
        grown = allowed * np.maximum(1, np.abs(predicted) / np.maximum(1, np.abs(expected.lse)))
        with np.errstate(invalid="ignore"):
            near = (np.abs(predicted - lse) <= grown) | (predicted == lse)
        near |= np.isnan(predicted) & np.isnan(lse)
        if near[:, mild].all() and o.verdict.lse_wrong[:, mild].any():
            found.add((cause, sentence))
    return found


def _lse_unknown(o: Observation, bench: Bench) -> Finding:
    assert o.verdict is not None
    assert o.lse is not None
    wrong, expected = o.verdict.lse_wrong, o.verdict.expected
    at = tuple(map(int, np.argwhere(wrong)[0]))
    b, h, i = at
    with np.errstate(all="ignore"):
        counts = read_counts(bench, o.case) if o.case.needs == Feature.LSE else ""
        off = read_lse(o.lse.astype(np.float64), expected.lse, SLACK * expected.lse_rounding)
    read = counts or off
    return Finding(
        "lse_wrong",
        f"out is right and lse is not: {f'{read}: ' if read else ''}{o.lse[at]:.6g} where it "
        f"should be {expected.lse[at]:.6g} (batch {b}, head {h}, query {i}); {int(wrong.sum())} of "
        f"{wrong.size} values are wrong",
        f"in '{o.case.name}'",
        1.0,
        o.case.name,
        "lse",
    )
