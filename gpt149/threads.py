"""How many threads to use."""

from __future__ import annotations

import os

from .errors import InputError


def checked_threads(wanted: int | None) -> int:
    """The wanted number; None: OMP_NUM_THREADS, else every processor this process may use.

    Raises:
        InputError: less than one.
    """
    omp = os.environ.get("OMP_NUM_THREADS", "")
    if wanted is None and omp.isdecimal() and int(omp) > 0:
        return int(omp)
    if wanted is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if wanted < 1:
        raise InputError(f"the number of threads is {wanted}, and must be >= 1.")
    return wanted
