"""How many threads to use."""

from __future__ import annotations

import os

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
