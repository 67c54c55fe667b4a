"""Why the compiler has made no vectors of a loop, by line, from its own record.

gcc says so for -fopt-info-vec-missed, clang for -Rpass-analysis=loop-vectorize; the words of both
become one sentence. A record is kept beside the library's name in the cache directory.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ..kernels.build import Target, compile_command
from ..kernels.compiler import compiler_for, is_clang
from ..system.paths import cache_dir, write_whole
from .lines import Place

SECONDS = 20.0
REASON = re.compile(r"^(.+?):(\d+):\d+: (?:missed|remark): +(?:loop )?not vectorized: (.+)$", re.M)
ABOVE = 3  # lines from a loop's `for` to what is slow in it
CALL = re.compile(r"statement clobbers memory: .*?\b(\w+) \(")
WORDS = (
    ("control flow in loop", "there are branches in it"),
    ("complicated access pattern", "it reads or writes in no pattern that the compiler knows"),
    ("strided load", "numbers are read at a distance from each other"),
    ("reorder floating-point", "a sum of floats may not be reordered"),
    ("unsafe fp math", "a sum of floats may not be reordered"),
    ("unsafe dependent memory", "what it writes may be what it reads: say __restrict"),
    ("possible alias", "what it writes may be what it reads: say __restrict"),
    ("possible dependence", "what it writes may be what it reads: say __restrict"),
    ("cannot identify array bounds", "what it writes may be what it reads: say __restrict"),
    ("call instruction cannot", "it calls a function that is known for one value alone"),
    ("number of iterations cannot", "how often it runs is not known before"),
    ("could not determine number", "how often it runs is not known before"),
    ("contains a switch", "there is a switch in it"),
    ("could not be identified as reduction", "a value is carried from one turn to the next"),
    ("volatile", "it reads or writes what is volatile"),
    ("no vectype", "there are no vectors of its type"),
    ("unsupported data-type", "there are no vectors of its type"),
    ("relevant stmt not supported", "there is no vector form of what it does"),
)


class Record:
    """What the compiler said of loops: (file name, line) and its words."""

    def __init__(self, text: str) -> None:
        self._said: dict[tuple[str, int], list[str]] = {}
        for file, line, why in REASON.findall(text):
            self._said.setdefault((Path(file).name, int(line)), []).append(why)

    def why(self, place: Place) -> str:
        """In words, for a line in a loop or for that of the loop itself; "" if it is not known."""
        file = Path(place.file).name
        for line in range(place.line, place.line - ABOVE - 1, -1):
            for said in self._said.get((file, line), ()):
                if call := CALL.search(said):
                    return f"it calls {call[1].removeprefix('__builtin_')}"
                for part, words in WORDS:
                    if part in said:
                        return words
        return ""


def record(target: Target, library: Path) -> Record | None:
    """Of the sources of a library that is built; None where the compiler gives none."""
    kept = cache_dir() / "records" / f"{library.stem}.txt"
    try:
        return Record(kept.read_text())
    except OSError:
        pass
    text = ""
    for source in target.sources:
        said = _ask(target, source)
        if said is None:
            return None
        text += said
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, text.encode())
    return Record(text)


def _ask(target: Target, source: Path) -> str | None:
    flag = (
        "-Rpass-analysis=loop-vectorize"
        if is_clang(tuple(compiler_for("")))
        else "-fopt-info-vec-missed"
    )
    compiler = compile_command(target)
    if not compiler:
        return None
    command = (*compiler, "-w", flag, "-S", str(source), "-o", os.devnull)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line for line in done.stderr.splitlines() if REASON.match(line)]
    return "\n".join(lines) if done.returncode == 0 else None
