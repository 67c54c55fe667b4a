"""All that is compiled, by clang++ with its own OpenMP: no warning, right, on teams of any size."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.engine import binding
from gpt149.engine.start import start
from gpt149.kernels.build import Target, build, build_all, compile_command
from gpt149.kernels.registry import CONTRACT_BUILTINS, locate, to_build
from gpt149.model import checkpoint

PROMPT = [72, 101, 108, 108, 111] * 4
TEAM = """
#include <omp.h>
extern "C" int team(int n) {
    int size = 0;
#pragma omp parallel num_threads(n)
#pragma omp atomic
    size++;
    return size;
}
"""


@pytest.fixture
def _by_clang(clang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", clang)


@pytest.mark.usefixtures("_by_clang")
def test_teams_are_as_large_as_asked_for_beside_another_openmp(tmp_path: Path) -> None:
    """Torch has brought g++'s OpenMP into the process."""
    (tmp_path / "team.cpp").write_text(TEAM)
    library = ctypes.CDLL(str(build(tmp_path / "team.cpp")))
    assert [library.team(n) for n in (1, 2, 5)] == [1, 2, 5]


@pytest.mark.parametrize("flag", ["-Ofast", "-funsafe-math-optimizations"])
def test_no_flag_of_the_users_flushes_denormals_and_none_of_ours_forbids_vectors(
    tmp_path: Path, clang: str, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", f"env {clang} {flag}")  # as behind ccache: it is not the first word
    (tmp_path / "small.cpp").write_text('extern "C" float twice(float x) { return x + x; }\n')
    program = (
        "import ctypes, sys; twice = ctypes.CDLL(sys.argv[1]).twice; "
        "twice.restype, twice.argtypes = ctypes.c_float, [ctypes.c_float]; assert twice(1e-40) > 0"
    )
    library = build(tmp_path / "small.cpp")
    subprocess.run([sys.executable, "-c", program, str(library)], check=True)
    words = [*compile_command(Target((tmp_path / "small.cpp",))), "-###", "-xc++", "-c"]
    told = subprocess.run([*words, "/dev/null"], capture_output=True, text=True, check=True).stderr
    assert "exception-behavior=strict" not in told


@pytest.mark.usefixtures("_by_clang")
def test_kernels_and_engine_compile_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    units = [*binding.to_build("float32"), binding.to_build("int8")[1]]
    kernels = [to_build(locate(name)) for name in CONTRACT_BUILTINS]
    build_all([*units, *(kernel for kernel in kernels if kernel)])
    assert [r.getMessage() for r in caplog.records if "warning" in r.getMessage()] == []


@pytest.mark.usefixtures("_by_clang")
@pytest.mark.parametrize("kernel", CONTRACT_BUILTINS)
def test_kernels_are_right_on_teams_of_each_size(kernel: str) -> None:
    few = [case for case in quick() if case.work < 300_000][::3]
    teams = [replace(case, n_threads=3) for case in few[::4]]
    large = [case for case in quick() if case.name == "threads-33"]
    report = check(kernel, [*few, *teams, *large], timeout=30)
    assert report.right
    assert not report.findings
    assert not report.notes  # its OpenMP's threads stay awake behind a call, and are no fault


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2e-5), ("int8", 0.02)])
def test_the_engine_gives_the_logits_of_the_one_by_gxx(
    tiny_model_dir: Path, clang: str, dtype: str, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoint.load(str(tiny_model_dir))
    want = start(model, "naive", dtype=dtype, n_threads=1).feed([PROMPT])
    monkeypatch.setenv("CXX", clang)
    one, two = (start(model, "naive", dtype=dtype, n_threads=n).feed([PROMPT]) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, want, rtol=0, atol=allowed * want.std())


@pytest.mark.usefixtures("_by_clang")
def test_a_module_of_the_assignment_over_the_stand_in() -> None:
    cases = [case for case in quick() if case.name in ("n16-full", "n64-full")]
    assert check("tests/cs149/module.cpp:part1", cases, timeout=30).right
