"""What a kernel's source mentions and the kernel does not claim: no call asks it of the kernel, and
so no verdict speaks of it. That is said, and what would come out if it were claimed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..kernels.abi import FIELD, IN_WORDS, Feature
from ..kernels.build import made_of
from ..kernels.loaders.python import DEFAULT_NAME
from ..kernels.loaders.tensors import PARAMETERS
from ..kernels.registry import Source
from ..system.paths import is_theirs
from .cases import Case
from .diagnosis import diagnose
from .finding import Finding
from .isolation import Child
from .observe import Bench, Observation

CAUSE = "unclaimed"
NONE = Feature(0)
HEADER = "gpt149.h"  # of which there may be a copy beside the source
NOT_CODE = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
# Functions of gpt149.h that look at fields.
HELPERS = {
    "gpt149_first": ("window", "kv_begin"),
    "gpt149_score": ("softcap", "alibi_slopes"),
    "gpt149_sink": ("sinks",),
    "gpt149_head_dim_v": ("head_dim_v",),
    "gpt149_lse": ("lse",),
}
MOST_ENDINGS = 2  # crashes and hangs of a feature's cases


def unclaimed(
    source: Source,
    library: Path | None,
    observations: Sequence[Observation],
    cases: Sequence[Case],
    bench: Bench,
    child: Child,
) -> list[Finding]:
    """A note on each feature that is mentioned and not claimed; on those that are right, one.

    observations: of the cases that it was asked. cases: of these, those of the feature alone are
    asked as if it were claimed, where the kernel is right so far. What it then declines, it says
    itself. share: of such cases, the wrong ones.
    """
    if source.loader == "python" and source.path:
        return list(parameters(source.path, source.name))
    if source.loader != "contract" or source.path is None:
        return []
    included = made_of(library) if library else []
    theirs = [file for file in included if is_theirs(file, source.path) and file.name != HEADER]
    found = mentions(theirs or [source.path], child.features)
    missing = [feature for feature in found if not feature & child.features]
    right = all(o.passed for o in observations)
    notes, rest = [], dict[Feature, int]()
    for feature in missing:
        tried = list(_tried(feature, cases, bench, child)) if right else []
        asked = [o for o in tried if o.answer.outcome != "declined"]
        if tried and not asked:
            continue
        wrong = [o for o in asked if not o.passed]
        with_keys = feature == Feature.Q_BFLOAT16
        known = child.features | Feature(sum(f for f, n in rest.items() if n))
        if not wrong or (with_keys and Feature.KV_BFLOAT16 & ~known):
            rest[feature] = 0 if wrong else len(asked)
            continue
        with child.claiming(wrong[0].case.needs):
            first = next(iter(diagnose([*observations, *asked], bench)), None)
        if source.name and first and first.cause.endswith("_ignored"):
            continue  # of several kernels in a file, others may be meant
        said = f", first by {first.cause}: {first.sentence}" if first else ""
        notes.append(
            Finding(
                CAUSE,
                f"{_silent([feature], found)}. Were it claimed by {_flags([feature])} in "
                f"GPT149_KERNEL, {len(wrong)} of {len(asked)} cases would be wrong{said}",
                first.evidence if first else "",
                len(wrong) / len(asked),
                wrong[0].case.name,
            )
        )
    if rest:
        features = list(rest)
        right_in = f"all {sum(rest.values())} cases would be right" if all(rest.values()) else ""
        it = "it" if len(features) == 1 else "all"
        told = (
            f"Were {it} claimed by {_flags(features)} in GPT149_KERNEL, {right_in}"
            if right_in
            else f"To be asked, claim {it} by {_flags(features)} in GPT149_KERNEL"
        )
        notes.append(Finding(CAUSE, f"{_silent(features, found)}. {told}", "", 0.0))
    return notes


def mentions(files: Sequence[Path], claimed: Feature = NONE) -> dict[Feature, str]:
    """The features whose fields C++ sources look at, and where that is first: FIELD (FILE:LINE).

    A helper that looks at two is called for the one that is claimed, if one is.
    """
    known = {field for feature, field in FIELD.items() if feature & claimed}
    called = {helper: looks for helper, looks in HELPERS.items() if not known & {*looks}}
    fields, helpers = "|".join(FIELD.values()), "|".join(HELPERS)
    found = dict[str, str]()
    for file in files:
        text = NOT_CODE.sub(_blank, file.read_text(encoding="utf-8", errors="replace"))
        for hit in re.finditer(rf"(?:->|\.)\s*({fields})\b(?!\s*\()|\b({helpers})\s*\(", text):
            line = text.count("\n", 0, hit.start()) + 1
            for field in (hit[1],) if hit[1] else called.get(hit[2], ()):
                found.setdefault(field, f"{hit[1] or hit[2]} ({file.name}:{line})")
    return {feature: found[field] for feature, field in FIELD.items() if field in found}


def _blank(found: re.Match[str]) -> str:
    """Of a comment, its line ends."""
    return " " + "\n" * found[0].count("\n")


def _tried(
    feature: Feature, cases: Sequence[Case], bench: Bench, child: Child
) -> Iterator[Observation]:
    """Cases of a feature alone, as if it were claimed, until too many end the child.

    Queries in bfloat16 come with such keys.
    """
    needs = feature | (Feature.KV_BFLOAT16 if feature == Feature.Q_BFLOAT16 else Feature(0))
    endings = 0
    with child.claiming(needs):
        for case in cases:
            if case.needs == needs and endings < MOST_ENDINGS:
                yield (seen := bench.observe(case))
                endings += seen.answer.outcome in ("crash", "hang", "memory", "exit")


def _silent(features: Sequence[Feature], found: dict[Feature, str]) -> str:
    """What is mentioned, and that it was not asked."""
    words = ", ".join(dict.fromkeys(found[feature] for feature in features))
    *fields, last = (FIELD[feature] for feature in features)
    what = f"{', '.join(fields)} and {last}" if fields else IN_WORDS[features[0]]
    return f"its source mentions {words} and does not claim {what}: that was not asked"


def _flags(features: Sequence[Feature]) -> str:
    return " | ".join(f"GPT149_{feature.name}" for feature in features)


def parameters(file: Path, name: str) -> Iterator[Finding]:
    """Of a function in Python, those that no call gives."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # which was said before
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == (name or DEFAULT_NAME):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            known = {"causal", "scale", *PARAMETERS}
            unknown = [a.arg for a in islice(named, 3, None) if a.arg not in known]
            unknown += [f"**{node.args.kwarg.arg}"] if node.args.kwarg else []
            if unknown:
                yield Finding(
                    CAUSE,
                    f"no call gives its {', '.join(unknown)}: what a function computes besides it "
                    f"claims by parameters of these names, {', '.join(PARAMETERS)}, and is asked "
                    "for no more",
                    "",
                    0.0,
                )
