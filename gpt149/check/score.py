"""How good is `check`? Kernels of which it is known what is wrong: are they caught, and named?

An index, `index.tsv`, lists them; kernels may also say it of themselves, in comments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import BuildError, InputError
from ..kernels.registry import COMPILED
from .cases import Case
from .observe import Memo
from .run import check

KINDS = ("right", "wrong", "side_effect")
COLUMNS = ("name", "kind", "expected")  # of an index that does not name its own
SUFFIXES = ("", *COMPILED, ".py")


@dataclass(frozen=True)
class Entry:
    """A kernel, and what is known of it.

    kind: `right`, `wrong`, or `side_effect`: its values are right, but it does what is not a
    kernel's to do. cause: of the first finding, word for word. says: what must be found in its
    cause or its sentence. Where neither is known, being caught is all that is asked.
    """

    name: str
    file: Path
    kind: str
    cause: str | None = None
    says: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Score:
    """What became of an entry.

    expected: cause and words, as far as known. verdict: `FAIL`, `PASS`, or `WARN`: values are
    right, and something else was found. cause, sentence: of the first finding. named: whether they
    are the expected ones; None: not known.
    """

    name: str
    kind: str
    expected: str
    verdict: str
    cause: str
    sentence: str
    named: bool | None
    seconds: float

    @property
    def caught(self) -> bool:
        return self.kind != "right" and self.verdict != "PASS"

    @property
    def alarm(self) -> bool:
        return self.kind == "right" and self.verdict != "PASS"


def from_index(folder: Path) -> list[Entry]:
    """The kernels of a folder's index.tsv, one a line: name, kind, expected words.

    A first line that starts with # names the columns, if there are others. `expected`, which may be
    missing or empty, is a regular expression: words, parted by |. Other lines with # are comments.

    Raises:
        InputError: there is no index, it cannot be read so, or a file that it names is missing.
    """
    index = folder / "index.tsv"
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(
            f"cannot read {index}: {e}. It lists the kernels of the folder, one a line: name, kind "
            f"({', '.join(KINDS)}) and expected words, with tabs between."
        ) from e
    header = lines[0].lstrip("# ").split("\t") if lines and lines[0].startswith("#") else []
    columns = header if len(header) > 1 else COLUMNS
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        row = dict(zip(columns, line.split("\t"), strict=False))
        name, kind, expected = (row.get(column, "").strip() for column in COLUMNS)
        where = f"line {number} of {index}"
        if kind not in KINDS:
            raise InputError(f"{where}: '{name}' is '{kind}'; it can be {', '.join(KINDS)}.")
        file = next((f for s in SUFFIXES if (f := folder / f"{name}{s}").is_file()), None)
        if file is None:
            raise InputError(f"{where}: there is no kernel {folder / name}.")
        entries.append(Entry(name, file, kind, says=_pattern(expected, where)))
    if not entries:
        raise InputError(f"{index} lists no kernel.")
    return entries


def from_comments(*folders: Path) -> list[Entry]:
    """The kernels of folders that say it of themselves.

    `// cause: NAME` is the first finding's cause, or `none`; `// says: WORDS` a regular expression
    that its sentence must match.

    Raises:
        InputError: there are none, as in an installed wheel.
    """
    entries = []
    for file in sorted(file for folder in folders for file in folder.glob("*.cpp")):
        text = file.read_text(encoding="utf-8")
        cause, says = (said(text, key) for key in ("cause", "says"))
        if not cause:
            raise InputError(f"{file} does not say what is wrong in it: `// cause: NAME`.")
        kind = "right" if cause == "none" else "wrong"
        known = None if cause == "none" else cause
        entries.append(Entry(file.stem, file, kind, known, _pattern(says, str(file))))
    if not entries:
        raise InputError(f"no kernels in {folders[0]}: --self-test needs a checkout.")
    return entries


def said(text: str, key: str) -> str:
    """What a kernel's source says in a line `// KEY: ...`; "" if nothing."""
    found = re.search(rf"^// {key}: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _pattern(words: str, where: str) -> re.Pattern[str] | None:
    try:
        return re.compile(words, re.IGNORECASE) if words else None
    except re.error as e:
        raise InputError(f"{where}: '{words}' is no regular expression: {e}.") from e


def score(
    entry: Entry, cases: Sequence[Case], *, timeout: float, memo: Memo | None = None
) -> Score:
    """Check a kernel, and hold what is said against what is known. memo: see `check`."""
    try:
        report = check(str(entry.file), cases, timeout=timeout, memo=memo)
    except BuildError as e:
        return _scored(entry, "FAIL", "build_error", str(e).splitlines()[0], 0.0)
    told = [*report.findings, *(note for note in report.notes if note.share)]
    warned = bool(told) and not report.excused
    verdict = "FAIL" if not report.right else "WARN" if warned else "PASS"
    first = told[0] if told else None
    cause, sentence = (first.cause, first.sentence) if first else ("", "")
    return _scored(entry, verdict, cause, sentence, report.seconds)


def _scored(entry: Entry, verdict: str, cause: str, sentence: str, seconds: float) -> Score:
    named = None
    if entry.kind != "right" and (entry.cause or entry.says):
        named = entry.cause in (None, cause)
        if entry.says:
            named = named and entry.says.search(f"{cause}: {sentence}") is not None
    expected = ": ".join(filter(None, (entry.cause, entry.says and entry.says.pattern)))
    return Score(entry.name, entry.kind, expected, verdict, cause, sentence, named, seconds)


def totals(scores: Sequence[Score]) -> dict[str, Any]:
    """Counts over all of them, and the median and the largest time of a check in seconds."""
    seconds = [s.seconds for s in scores]
    return {
        "wrong": sum(s.kind != "right" for s in scores),
        "caught": sum(s.caught for s in scores),
        "asked_for_name": sum(s.named is not None for s in scores),
        "named": sum(s.named is True for s in scores),
        "right": sum(s.kind == "right" for s in scores),
        "false_alarms": sum(s.alarm for s in scores),
        "median_seconds": median(seconds),
        "worst_seconds": max(seconds),
    }


def as_text(scores: Sequence[Score]) -> str:
    """A table, one line a kernel, and the totals.

    Below a kernel stands what was said of it, where that is not known to be right.
    """
    width = max(len("kernel"), *(len(s.name) for s in scores))
    causes = max(len("first cause"), *(len(s.cause) for s in scores))
    lines = [f"{'kernel':<{width}}  verdict  {'first cause':<{causes}}  named  seconds"]
    for s in scores:
        named = {True: "yes", False: "no", None: "-"}[s.named]
        row = f"{s.name:<{width}}  {s.verdict:<7}  {s.cause:<{causes}}  {named:<5}  "
        lines.append(row + f"{s.seconds:>7.1f}")
        if s.sentence and not s.named:
            lines.append(f"  {s.sentence}")
        if s.named is False:
            lines.append(f"  expected: {s.expected}")
        if s.alarm or not (s.caught or s.kind == "right"):
            lines.append(f"  {'a false alarm' if s.alarm else 'not caught'}: it is {s.kind}")
    t = totals(scores)
    return "\n".join(
        [
            *lines,
            "",
            f"{t['wrong']} wrong kernels: {t['caught']} caught, {t['named']} of "
            f"{t['asked_for_name']} named with the right cause first; "
            f"{t['right']} right ones: {t['false_alarms']} false alarms.",
            f"A check took {t['median_seconds']:.1f} s (median), {t['worst_seconds']:.1f} s at "
            "worst.",
        ]
    )


def as_json(scores: Sequence[Score]) -> dict[str, Any]:
    """The same for programs."""
    return {"kernels": [asdict(s) for s in scores], "totals": totals(scores)}
