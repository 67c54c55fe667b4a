"""Addresses of a library become lines of its author's source, by addr2line."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..system.paths import is_theirs

HEAD = "0x"
# `/a/mine.cpp:33 (discriminator 2)`; `??` is no place.
PLACE = re.compile(r"(/.*):(\d+)(?: \(discriminator \d+\))?")


@dataclass(frozen=True)
class Place:
    """A line of the author's file (its path); function: what stands there, without parameters."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


def readable() -> bool:
    """Whether there is an addr2line."""
    return shutil.which("addr2line") is not None


def places(library: Path, addresses: Sequence[int], source: Path) -> dict[int, Place]:
    """Where the code at these addresses comes from: of inlined calls, the innermost of the author.

    source: the author's file; what it includes counts, but for our headers and the system's. An
    address is left out where no line is known; {} without addr2line.
    """
    tool = shutil.which("addr2line")
    if tool is None or not addresses:
        return {}
    theirs = functools.cache(lambda file: is_theirs(Path(file), source))
    asked = "".join(f"{address:#x}\n" for address in addresses)
    command = [tool, "-e", str(library), "-a", "-i", "-f", "-C"]
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, errors="replace", check=False
    )
    found: dict[int, Place] = {}
    address, lines = 0, iter(done.stdout.splitlines())
    for line in lines:
        if line.startswith(HEAD) and " " not in line:
            address = int(line, 16)
            continue
        said = PLACE.fullmatch(next(lines, ""))
        if said and address not in found and theirs(said[1]):
            file = str(Path(said[1]).resolve())
            found[address] = Place(file, int(said[2]), line.partition("(")[0])
    return found
