"""`check --sanitize thread`: races are shown at their line, and barriers are none."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.cli import main

CASES = {case.name: case for case in quick()}
RACE = """
#include "gpt149.h"
static const char *none(const gpt149_args *a) {
    float *sum = (float *)a->workspace;
#pragma omp parallel for num_threads(a->n_threads)
    for (int i = 0; i < a->n_q; i++)
        *sum += gpt149_q(a, 0, 0, i)[0]; // here
    return nullptr;
}
static int64_t one(const gpt149_args *) { return 4; }
GPT149_KERNEL({"none", "adds up for nobody", "1", one, none})
"""


@pytest.fixture(scope="module", autouse=True)
def _needs(clang: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where clang++ has no ThreadSanitizer."""
    program = tmp_path_factory.mktemp("empty") / "empty"
    source = program.with_suffix(".cpp")
    source.write_text("int main() {}\n")
    command = [clang, "-fsanitize=thread", str(source), "-o", str(program)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs clang++'s sanitizers (Debian: libclang-rt-dev)")


def test_a_race_is_shown_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "none.cpp"
    file.write_text(RACE)
    [line] = [n for n, text in enumerate(RACE.splitlines(), 1) if "// here" in text]
    done = CliRunner().invoke(main, ["check", str(file), "--sanitize", "thread", "--case", "n33"])
    assert "data race" not in done.stdout  # one thread
    case = ["--case", "threads-2"]
    done = CliRunner().invoke(main, ["check", str(file), "--sanitize", "thread", *case])
    assert done.exit_code == 1
    told = rf"data race: a \w+, and another thread's \w+ at none\.cpp:{line}, in case threads-2"
    assert re.search(told, done.stdout)


def test_a_race_between_calls_at_once_has_its_line_too() -> None:
    file = "tests/wrong_kernels/static_buffer.cpp"
    report = check(file, [CASES["heads-at-once"]], sanitizers="thread", explained=False)
    assert report.fault is not None
    assert report.fault.what.startswith("data race: a write")
    assert report.fault.place.startswith("rows.h:")


def test_kernels_whose_threads_wait_for_each_other_are_clean() -> None:
    cases = [CASES[name] for name in ("threads-2", "threads-3", "threads-decode", "heads-at-once")]
    kernel = "tests/right_kernels/omp_tasks.cpp"
    report = check(kernel, cases, sanitizers="thread", timeout=30, explained=False)
    assert report.fault is None
    assert report.right


def test_without_clang_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if "clang" in name else which(name))
    done = CliRunner().invoke(main, ["check", "naive", "--sanitize", "thread", "--case", "n17"])
    assert done.exit_code == 2
    assert "--sanitize thread needs clang++: with g++'s OpenMP each barrier" in done.stderr
    assert "sudo apt install clang libomp-dev libclang-rt-dev" in done.stderr
