"""Flags for machines that are not here, against what their compilers and their makers document."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from gpt149.cli import main
from gpt149.errors import InputError
from gpt149.kernels.build import dry_run
from gpt149.kernels.compiler import CPUS, compiles_for, machine_flags, this_machine

CROSS = "aarch64-linux-gnu-g++"
# aws/aws-graviton-getting-started, c-c++.md, column "performance".
AWS = {
    "graviton2": "-mcpu=neoverse-n1",
    "graviton3": "-mcpu=neoverse-v1",
    "graviton4": "-mcpu=neoverse-v2",
}
# scikit-learn, "Notes on OpenMP", "macOS compilers from Homebrew", for Apple's clang.
APPLE_OPENMP = "-Xpreprocessor -fopenmp -I/opt/homebrew/opt/libomp/include"
APPLE_LIBRARY = "-L/opt/homebrew/opt/libomp/lib -lomp"


@pytest.mark.parametrize("cpu", CPUS)
def test_the_command_for_each_cpu_is_its_makers(cpu: str) -> None:
    done = CliRunner().invoke(main, ["kernels", "--flags", cpu])
    assert done.exit_code == 0, done.stderr
    words = done.stdout.split()
    assert CPUS[cpu][1] in words
    assert AWS.get(cpu, "") in [*words, ""]
    apple = cpu.startswith("apple")
    assert (APPLE_OPENMP in done.stdout) == (APPLE_LIBRARY in done.stdout) == apple
    assert ("-Xpreprocessor" in words) == apple


def test_clang_takes_apples_flags_and_compiles_openmp() -> None:
    """The driver's own dry run, for Apple's target: what it would tell its compiler."""
    if not shutil.which("clang++"):
        pytest.skip("no clang++ here")
    words = ["/dev/null" if w == "mine.cpp" else w for w in dry_run("apple-m1")[1:]]
    command = ["clang++", "-###", "--target=arm64-apple-macos11", "-x", "c++", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    compiles, links = done.stderr.splitlines()[-2:]
    for expected in ('"-target-cpu" "apple-m1"', '"-fopenmp"', '"-std=c++17"'):
        assert expected in compiles
    for expected in ('"-dylib"', '"-L/opt/homebrew/opt/libomp/lib"', '"-lomp"'):
        assert expected in links


def values_that(compiler: str) -> str:
    """The values of -mcpu that a compiler lists when it is given none of them."""
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    command = [compiler, "-mcpu=none-such", "-x", "c++", "-c", "/dev/null", "-o", "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_the_cross_compiler_knows_gravitons() -> None:
    known = values_that(CROSS).split()
    for cpu in ("graviton2", "graviton3"):  # Graviton4's came with GCC 13
        assert CPUS[cpu][1].removeprefix("-mcpu=") in known


def test_a_cross_compiler_is_asked_for_its_own_cpus_and_loaded_by_nobody_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not shutil.which(CROSS):
        pytest.skip(f"no {CROSS} here")
    monkeypatch.setenv("CXX", CROSS)
    assert compiles_for() == "aarch64-linux-gnu"
    done = CliRunner().invoke(main, ["check", "naive"])
    assert done.exit_code == 2
    assert re.search(f"CXX names a compiler for aarch64.* this machine, {this_machine()}, cannot "
                     "run what it makes. Unset CXX", done.stderr)  # fmt: skip


def test_cpus_of_another_kind_and_of_none() -> None:
    assert machine_flags("aarch64-linux-gnu", "native")[0] in ("-mcpu=generic", "-mcpu=native")
    assert machine_flags("aarch64-linux-gnu", "cortex-a76")[0] == "-mcpu=cortex-a76"
    with pytest.raises(InputError, match="graviton3 is a CPU of aarch64-linux-gnu, and the comp"):
        machine_flags("x86_64-linux-gnu", "graviton3")
    with pytest.raises(InputError, match="no CPU 'graviton9' in the table: avx2, avx512, grav"):
        dry_run("graviton9")
    done = CliRunner().invoke(main, ["kernels", "--flags", "avx2", "--shape", "1,1,1,1"])
    assert (done.exit_code, done.stdout) == (2, "")
