"""How many threads are used."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from gpt149.errors import InputError
from gpt149.system.threads import checked_threads, one_blas_thread


def test_as_wanted_or_openmps_own_setting_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert checked_threads(5) == 5
    assert checked_threads(None) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,4")
    assert checked_threads(None) == 2
    for nonsense in ("", "0", "many", "99999999999"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert 1 <= checked_threads(None) <= (os.cpu_count() or 1)


def test_none_is_refused() -> None:
    for number in (0, -1, 1025, 2**33):
        with pytest.raises(InputError, match=f"threads is {number}"):
            checked_threads(number)


def test_numpys_products_take_one_thread_meanwhile() -> None:
    """Where numpy came with an OpenBLAS of its own; elsewhere nothing happens."""
    bundled = list(Path(np.__file__).parents[1].glob("numpy.libs/*openblas*"))
    if not bundled:
        pytest.skip("numpy's BLAS is another one")
    n_threads = ctypes.CDLL(str(bundled[0])).scipy_openblas_get_num_threads64_
    before = n_threads()
    with one_blas_thread():
        assert n_threads() == 1
    assert n_threads() == before
