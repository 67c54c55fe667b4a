"""How many threads to use."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError

MOST_THREADS = 1024


def processors() -> int:
    """How many this process may keep busy: by its affinity, and by its control group's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(allowed, quota())))


def quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Processors' worth of time that a control group of this process gives it; inf: any (Linux).

    groups: where the file system of control groups is mounted. own: the list of this process's.
    """
    least = math.inf
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / "cpu" if controllers else groups
        for folder in (*(root / path.lstrip("/")).parents, root / path.lstrip("/")):
            if not folder.is_relative_to(root):
                continue
            numbers = _lines(folder / "cpu.max")  # the second version: one file, "max" for any
            given = numbers[0].split() if numbers else []
            if not given:
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                given = [line for name in files for line in _lines(folder / name)]
            with suppress(ValueError, IndexError, ZeroDivisionError):
                share = int(given[0]) / int(given[1])
                least = min(least, share) if share > 0 else least
    return least


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def checked_threads(wanted: int | None) -> int:
    """The wanted number; None: OMP_NUM_THREADS, else every processor this process may use.

    Raises:
        InputError: less than one, or more than OpenMP or the system can start.
    """
    omp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted is None and omp.isdecimal() and 0 < int(omp) <= MOST_THREADS:
        return int(omp)
    if wanted is None:
        return processors()
    if not 1 <= wanted <= MOST_THREADS:
        raise InputError(
            f"the number of threads is {wanted}, and must be from 1 to {MOST_THREADS}."
        )
    if wanted > processors() and (started := _started(wanted)) < wanted:
        raise InputError(
            f"the system starts {started} threads here, and not {wanted} (its limit of processes, "
            f"or of memory for their stacks). Use fewer: {processors()} have a processor."
        )
    return wanted


def _started(wanted: int) -> int:
    """How many of so many threads the system starts at a time."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(wanted)]
    n = 0
    try:
        for thread in threads:
            thread.start()
            n += 1
    except RuntimeError:  # can't start new thread
        pass
    over.set()
    for thread in threads[:n]:
        thread.join()
    return n


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of numpy with one thread meanwhile, where it came with an OpenBLAS of its own.

    Small products take longer with several, and those of a busy machine many times longer.
    """
    import numpy as np

    package = Path(np.__file__).parent
    bundled = [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]
    blas = ctypes.CDLL(str(bundled[0])) if bundled else None
    get, set_ = (
        getattr(blas, f"scipy_openblas_{verb}_num_threads64_", None) for verb in ("get", "set")
    )
    if get is None or set_ is None:
        yield
        return
    before = get()
    set_(1)
    try:
        yield
    finally:
        set_(before)
