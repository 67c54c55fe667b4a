"""How many threads to use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError

MOST_THREADS = 1024


def checked_threads(wanted: int | None) -> int:
    """The wanted number; None: OMP_NUM_THREADS, else every processor this process may use.

    Raises:
        InputError: less than one, or more than OpenMP can start.
    """
    omp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wanted is None and omp.isdecimal() and 0 < int(omp) <= MOST_THREADS:
        return int(omp)
    if wanted is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not 1 <= wanted <= MOST_THREADS:
        raise InputError(
            f"the number of threads is {wanted}, and must be from 1 to {MOST_THREADS}."
        )
    return wanted


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
