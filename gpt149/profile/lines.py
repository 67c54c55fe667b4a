"""Addresses of a library become lines of its author's source, by addr2line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEAD = "0x"


@dataclass(frozen=True)
class Place:
    """A line of the author's file; function: what stands there, without its parameters."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def places(library: Path, addresses: Sequence[int], source: Path) -> dict[int, Place]:
    """Where the code at these addresses comes from: of inlined calls, the innermost in `source`.

    An address is left out where no line of `source` is known; {} without addr2line.
    """
    tool = shutil.which("addr2line")
    if tool is None or not addresses:
        return {}
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
        file, _, number = next(lines, "?:0").partition(" ")[0].rpartition(":")
        mine = Path(file).name == source.name and Path(file).resolve() == source.resolve()
        if mine and number.isdecimal() and address not in found:
            found[address] = Place(source.name, int(number), line.partition("(")[0])
    return found
