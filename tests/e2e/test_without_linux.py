"""The core where nothing of Linux's is there: as near to macOS as Linux gets.

Every Python process says that it is on macOS, and has no /proc, no prctl and what else macOS lacks.
The compiler is clang++, asked as Apple's is; a libomp is there before ours, as torch brings one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import ctypes, os, sys, sysconfig
sysconfig.get_config_vars()  # the standard library's own files are Linux's
sys.platform = "darwin"
for name in ("sched_getaffinity", "sched_setaffinity", "posix_fallocate", "memfd_create"):
    delattr(os, name)
access, look = os.access, ctypes.CDLL.__getattr__
LINUX = ("/proc", "/sys/", "/dev/shm")
os.access = lambda path, mode: not str(path).startswith(LINUX) and access(path, mode)
def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(LINUX):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])
def symbol(library, name):
    if name in ("prctl", "fegetexcept", "feenableexcept", "gettid"):
        raise AttributeError(name)
    return look(library, name)
sys.addaudithook(refuse)
ctypes.CDLL.__getattr__ = symbol
ctypes.CDLL("OTHER").omp_get_max_threads()
"""


@pytest.fixture(scope="module")
def environment(clang: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("macos")
    asked = subprocess.run([clang, "-print-resource-dir"], capture_output=True, check=True)
    runtime = Path(os.fsdecode(asked.stdout.strip())).parents[1]
    if not (runtime / "libomp.so").exists():
        pytest.skip(f"needs clang's OpenMP in {runtime}")
    other = (runtime / "libomp.so").read_bytes().replace(b"\0libomp.so.5\0", b"\0another.so5\0")
    (folder / "other.so").write_bytes(other)  # by its own name, else the loader takes it for ours
    (folder / "sitecustomize.py").write_text(WITHOUT.replace("OTHER", str(folder / "other.so")))
    compiler = folder / "c++"
    compiler.write_text(
        f'#!/bin/sh\nexec {clang} -Wno-unused-command-line-argument -L{runtime} "$@"\n'
    )
    compiler.chmod(0o755)
    left = {name: value for name, value in os.environ.items() if name != "CXX"}
    path = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    return {**left, **path, "GPT149_CACHE": str(folder / "cache")}


def gpt149(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpt149", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in done.stderr
    assert "warning" not in done.stderr
    return done


def test_flags_are_apples(environment: dict[str, str]) -> None:
    program = (
        "from gpt149.kernels import compiler as c; print(c.machine_flags(c.compiles_for(), 'x'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert "'-Xpreprocessor', '-fopenmp', '-I/opt/homebrew/opt/libomp/include'" in done.stdout


def test_a_right_and_a_wrong_kernel(environment: dict[str, str]) -> None:
    right = gpt149(environment, "check", "flash", "--case", "threads-2")
    assert right.returncode == 0, right.stdout + right.stderr
    wrong = gpt149(environment, "check", "tests/wrong_kernels/causal_missing.cpp", "--case", "n33")
    assert wrong.returncode == 1
    assert "Cause: causal_missing" in wrong.stdout


def test_the_same_text(environment: dict[str, str]) -> None:
    done = gpt149(environment, "generate", "ROMEO:", "-n", "20", "--seed", "1", "-a", "naive")
    assert done.stdout.startswith("ROMEO:\nHave I him; and I t")  # as in the README
    assert "native engine, naive" in done.stderr
