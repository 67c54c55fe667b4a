"""What the machine can do at most: arithmetic and reading, measured once and kept."""

from __future__ import annotations

import ctypes
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..kernels.build import build, file_digest
from ..system.paths import cache_dir, shipped, write_whole

SECONDS = 0.25  # a measurement
REPEATS = 3  # the best counts: neighbours only ever slow a machine down
KIB = 1024
WORKING_SETS = tuple(KIB * 4**i for i in range(2, 10))  # 16 KiB to 256 MiB


@dataclass(frozen=True)
class Ceilings:
    """flops: float32 operations a second. bandwidths: (bytes of working set, bytes a second)."""

    n_threads: int
    flops: float
    flops_one_thread: float
    bandwidths: tuple[tuple[int, float], ...]

    def bandwidth(self, n_bytes: int) -> float:
        """Bytes a second over a working set of this size: that of the next measured one."""
        larger = [rate for size, rate in self.bandwidths if size >= n_bytes]
        return larger[0] if larger else self.bandwidths[-1][1]

    def seconds(self, flops: float, n_bytes: int, working_set: int) -> tuple[float, str]:
        """The least time for this work, and what decides it: arithmetic or bytes."""
        arithmetic, reading = flops / self.flops, n_bytes / self.bandwidth(working_set)
        return max((arithmetic, "arithmetic"), (reading, "bytes"))


def ceilings(n_threads: int, *, again: bool = False) -> Ceilings:
    """The machine's, from the cache directory.

    again: measure now as well. What was reached once can be reached: the higher figures are kept.

    Raises:
        BuildError, MissingDependency: the program that measures cannot be compiled.
    """
    library = _built()
    kept = _kept(library, n_threads)
    found = _read(kept)
    if found and not again:
        return found
    measured = _measure(_load(library), n_threads)
    measured = _higher(measured, found) if found else measured
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(asdict(measured)).encode())
    return measured


def kept_ceilings(n_threads: int) -> Ceilings | None:
    """Those that were measured before, if they were.

    Raises:
        BuildError, MissingDependency: as `ceilings`.
    """
    return _read(_kept(_built(), n_threads))


def _kept(library: Path, n_threads: int) -> Path:
    return cache_dir() / "ceilings" / f"{file_digest(library)[:20]}-{n_threads}.json"


def _higher(a: Ceilings, b: Ceilings) -> Ceilings:
    pairs = zip(a.bandwidths, b.bandwidths, strict=True)
    return Ceilings(
        a.n_threads,
        max(a.flops, b.flops),
        max(a.flops_one_thread, b.flops_one_thread),
        tuple((size, max(rate, other)) for (size, rate), (_, other) in pairs),
    )


def _read(path: Path) -> Ceilings | None:
    try:
        found = json.loads(path.read_text())
        pairs = tuple((int(size), float(rate)) for size, rate in found.pop("bandwidths"))
        return Ceilings(bandwidths=pairs, **found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_bandwidth(memory: NDArray[np.float32], n_threads: int) -> float:
    """Bytes a second that threads read from this memory, over and over for SECONDS.

    Raises:
        BuildError, MissingDependency: the program that measures cannot be compiled.
    """
    return _reading(_load(_built()), memory, n_threads)


def fma_peak(n_threads: int) -> float:
    """Float32 operations a second of fused multiply-adds in registers, over SECONDS.

    Raises:
        BuildError, MissingDependency: the program that measures cannot be compiled.
    """
    return float(_load(_built()).gpt149_fma_peak(n_threads, SECONDS))


def _built() -> Path:
    return build(shipped("csrc") / "tools" / "ceilings.cpp")


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.gpt149_fma_peak.restype = library.gpt149_read_bandwidth.restype = ctypes.c_double
    library.gpt149_fma_peak.argtypes = (ctypes.c_int, ctypes.c_double)
    library.gpt149_read_bandwidth.argtypes = (
        ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double,
    )  # fmt: skip
    return library


def _reading(library: ctypes.CDLL, memory: NDArray[np.float32], n_threads: int) -> float:
    address, n = memory.ctypes.data, memory.size
    return float(library.gpt149_read_bandwidth(address, n, n_threads, SECONDS))


def _measure(library: ctypes.CDLL, n_threads: int) -> Ceilings:
    def flops(threads: int) -> float:
        return max(float(library.gpt149_fma_peak(threads, SECONDS)) for _ in range(REPEATS))

    memory = np.ones(WORKING_SETS[-1] // 4, np.float32)
    bandwidths = []
    for size in WORKING_SETS:
        rates = [_reading(library, memory[: size // 4], n_threads) for _ in range(REPEATS)]
        bandwidths.append((size, max(rates)))
    return Ceilings(n_threads, flops(n_threads), flops(1), tuple(bandwidths))
