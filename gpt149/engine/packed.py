"""Packed weights, kept in the cache: the next start maps them, where this one took fresh memory.

An entry is a file that the engine wrote (csrc/engine/image.h), and a trailer. Its name is a digest
of all that it was made of: which bytes of which files each weight is, the files' stamps and first
bytes, and what packed them. So an entry is never changed, and never stale. It appears by rename;
whatever opens it compares a checksum of the whole.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import struct
import time
from contextlib import suppress
from ctypes import byref, c_uint64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels.build import digest, locked
from ..system.mapping import Mapping, Stamp, origin
from ..system.paths import cache_dir

LIMIT = "GPT149_PACKED_GB"
DEFAULT_LIMIT = 4e9  # bytes
SMALLEST = 64 << 20  # bytes of weights in float32; fewer are packed in 20 ms
SETTLED = 60.0  # seconds; who has a file mapped may write that long without moving its stamp
FIRST_BYTES = 1 << 20  # of a file; they hold safetensors' header
TRAILER = struct.Struct("<16sQQ64s")  # MAGIC, bytes and checksum of what is before it, the key
MAGIC = b"gpt149 packed 1\n"


@dataclass(frozen=True)
class Entry:
    """Where an engine's packed weights are, or may be kept.

    path: named after the key. key: a digest. stamps: of the files of weights.
    """

    path: Path
    key: str
    stamps: tuple[Stamp, ...]

    @classmethod
    def of(
        cls, weights: dict[str, NDArray[np.float32]], files: set[Mapping], dtype: str, *made: str
    ) -> Entry | None:
        """None where none is wanted, or the weights are not, for certain, what lies in the files.

        files: whose memory nobody has written to. made: what packs the weights, and how.

        Raises:
            InputError: the environment's limit is no number.
        """
        if limit() == 0 or sum(w.nbytes for w in weights.values()) < SMALLEST:
            return None
        said, numbers = [dtype, *made], dict[Mapping, int]()
        for name, w in weights.items():
            file = origin(w)
            if not isinstance(file, Mapping) or file not in files or w.dtype != np.float32:
                return None
            number = numbers.setdefault(file, len(numbers))
            said.append(f"{name} {number} {w.ctypes.data - file.address()} {w.shape} {w.strides}")
        for file in numbers:
            if time.time() - file.stamp.changed / 1e9 < SETTLED:
                return None
            said += [str(file.stamp), digest(file[:FIRST_BYTES])]
        key = digest(*said)
        path = cache_dir() / "packed" / f"{dtype}-{key[:20]}"
        return cls(path, key, tuple(file.stamp for file in numbers))

    def fill(self, library: ctypes.CDLL, engine: int) -> bool:
        """Let the engine map its weights; False where there is no entry. A damaged one goes."""
        with suppress(OSError), self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size - TRAILER.size
            file.seek(max(0, size))
            magic, said, checksum, key = TRAILER.unpack(file.read().ljust(TRAILER.size))
            whole = (magic, said, key) == (MAGIC, size, self.key.encode())
            if whole and library.gpt149_engine_fill(engine, file.fileno(), size, checksum):
                with suppress(OSError):
                    os.utime(self.path)  # when it was last used
                return True
            self.path.unlink()
        return False

    def keep(self, library: ctypes.CDLL, engine: int, size: int) -> None:
        """Keep what an engine has packed, of so many bytes; without a word where that cannot be.

        What was not used for longest goes, as far as all together passes the limit.
        """
        folder, temporary = self.path.parent, self.path.with_suffix(".tmp")
        with suppress(OSError, InputError), locked(folder):
            for left in folder.glob("*.tmp"):  # by who was killed
                left.unlink()
            if self.path.exists() or not self._make_room(size + TRAILER.size):
                return
            checksum = c_uint64()
            try:
                with temporary.open("w+b") as file:
                    if not library.gpt149_engine_write(engine, file.fileno(), byref(checksum)):
                        return
                    file.seek(size)
                    file.write(TRAILER.pack(MAGIC, size, checksum.value, self.key.encode()))
                if all(Stamp.of(stamp.path) == stamp for stamp in self.stamps):
                    temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> bool:
        """Remove entries until there is room for so many bytes; False where there is none."""
        folder = self.path.parent
        if size > limit() or 2 * size > shutil.disk_usage(folder).free:
            return False
        others = sorted((p.stat().st_mtime, p.stat().st_size, p) for p in folder.glob("*-*"))
        total = sum(held for _, held, _ in others)
        for _, held, path in others:
            if total + size <= limit():
                break
            path.unlink()
            total -= held
        return True


def limit() -> float:
    """How many bytes all entries may have; 0: none is made or read.

    Raises:
        InputError: the environment says what is no such number.
    """
    said = os.environ.get(LIMIT)
    if not said:
        return DEFAULT_LIMIT
    try:
        gigabytes = float(said)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise InputError(
            f"{LIMIT} is {said!r}, and must be how many gigabytes of packed weights are kept, 0 "
            "for none."
        )
    return gigabytes * 1e9
