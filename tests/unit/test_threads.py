"""How many threads are used."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from gpt149.engine.start import start as start_engine
from gpt149.errors import InputError
from gpt149.model import checkpoint
from gpt149.system import threads
from gpt149.system.threads import checked_threads, one_blas_thread, quota


def test_as_wanted_or_openmps_own_setting_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert checked_threads(5) == 5
    assert checked_threads(None) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,4")
    assert checked_threads(None) == 2
    for nonsense in ("", "0", "many", "99999999999"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert 1 <= checked_threads(None) <= (os.cpu_count() or 1)


def groups(tmp_path: Path, listed: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A file system of control groups, and the list of a process's own."""
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "own").write_text(listed)
    return tmp_path / "groups", tmp_path / "own"


@pytest.mark.parametrize(
    ("listed", "files", "share"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n", "a/cpu.max": "max 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        ("0::/gone\n", {"cpu.max": "200000 100000\n"}, 2),  # of a container, which sees no more
        ("4:memory:/m\n3:cpu,cpuacct:/a\n",
         {"cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
         math.inf),
        ("", {}, math.inf),
        ("0::/\n", {"cpu.max": "nonsense\n"}, math.inf),
    ],
)  # fmt: skip
def test_the_quota_of_a_control_group_counts(
    listed: str, files: dict[str, str], share: float, tmp_path: Path
) -> None:
    assert quota(*groups(tmp_path, listed, files)) == share


def test_more_threads_than_the_system_starts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[int]()

    def start(_: threading.Thread) -> None:
        if len(started) == 7:
            raise RuntimeError("can't start new thread")
        started.append(1)

    monkeypatch.setattr(threads, "processors", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threading.Thread, "join", lambda _: None)
    with pytest.raises(InputError, match="starts 7 threads here, and not 300"):
        checked_threads(300)


def test_no_more_threads_work_than_there_are_processors(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gpt149.engine.start.processors", lambda: 1)
    engine = start_engine(checkpoint.load(str(tiny_model_dir)), "simd", n_threads=3)
    assert engine.n_threads == 1
    assert "3 threads are asked for; 1 have a processor" in caplog.text


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
