"""How many threads are used."""

from __future__ import annotations

import os

import pytest

from gpt149.errors import InputError
from gpt149.system.threads import checked_threads


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
