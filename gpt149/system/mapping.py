"""Files mapped into memory, and whether both are what they were."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Of an area of memory: from where to where, and how much of it is no longer the file's.
AREA = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) .*\n(?:.*\n)*?Anonymous: +(\d+) kB\n(?:.*\n)*?Swap: +(\d+) kB\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Stamp:
    """What tells a file's content from others, as git's index does. Times in nanoseconds.

    Whoever writes to a file moves `changed`, and cannot choose it.
    """

    path: str
    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: Path | str, descriptor: int | None = None) -> Stamp:
        """Of an open file, or of what lies there now; raises OSError."""
        s = os.stat(path if descriptor is None else descriptor)
        real = os.path.realpath(path)
        return cls(real, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


class Mapping(mmap.mmap):
    """A file, mapped copy on write. stamp: of the file, before that."""

    stamp: Stamp

    def address(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self))


def mapped(path: Path) -> Mapping:
    """Raises OSError, or ValueError where the file is empty."""
    with path.open("rb") as file:
        stamp = Stamp.of(path, file.fileno())
        memory = Mapping(file.fileno(), 0, access=mmap.ACCESS_COPY)
    memory.stamp = stamp
    return memory


def origin(array: object) -> object:
    """What an array is a view of, in the end."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def unwritten(files: Iterable[Mapping]) -> set[Mapping]:
    """Those whose memory is still the file's; none where no system says so (Linux does)."""
    try:
        areas = AREA.findall(Path("/proc/self/smaps").read_text(errors="replace"))
    except OSError:
        return set()

    def parts(file: Mapping) -> list[int]:
        first, last = file.address(), file.address() + len(file)
        own = [a for a in areas if int(a[0], 16) < last and int(a[1], 16) > first]
        return [int(anonymous) + int(swapped) for *_, anonymous, swapped in own]

    return {file for file in files if (written := parts(file)) and not any(written)}
