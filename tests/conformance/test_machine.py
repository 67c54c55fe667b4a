"""What this machine cannot do for any kernel is no kernel's fault: exit status 2, a sentence."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RIGHT = TESTS / "right_kernels" / "own_memory.cpp"
MODULE = TESTS / "cs149" / "module.cpp"


def gpt149(
    *arguments: str, prepare: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpt149", *arguments], env=os.environ | environment,
        capture_output=True, text=True, check=False, preexec_fn=prepare,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "FAIL" not in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("check", str(RIGHT)), ("lab", str(MODULE))])
@pytest.mark.parametrize("flag", ["-nonsense", "-include /nowhere.h"])
def test_a_compiler_that_compiles_nothing(
    command: tuple[str, ...], flag: str, tmp_path: Path
) -> None:
    compiler = f"{shutil.which('c++')} {flag}"
    done = gpt149(*command, CXX=compiler, GPT149_CACHE=str(tmp_path))
    refused(done, "does not compile an empty kernel either")


def test_a_folder_of_submissions_is_not_graded_without_a_compiler(tmp_path: Path) -> None:
    shutil.copy(MODULE, tmp_path / "one.cpp")
    refused(
        gpt149("lab", str(tmp_path), CXX="/etc/passwd"),
        "CXX names the compiler '/etc/passwd', and there is no such program",
    )


def test_a_kernel_that_does_not_compile_is_its_author_s_fault(tmp_path: Path) -> None:
    (tmp_path / "mine.cpp").write_text('#include "gpt149.h"\nnonsense\n')
    done = gpt149("check", str(tmp_path / "mine.cpp"))
    assert done.returncode == 1
    assert "does not compile" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_sanitizers_without_room_are_told_from_a_fault() -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    flags = ("--sanitize", "address", "--case", "one-token")
    refused(gpt149("check", str(RIGHT), *flags, prepare=little_room), "not even an empty kernel")
    wrong = TESTS / "wrong_kernels" / "writes_past_end.cpp"
    done = gpt149("check", str(wrong), "--case", "n33", prepare=little_room)
    assert done.returncode == 1
    assert "Where: not known, for want of sanitizers" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("n", [8, 10, 12])
def test_too_few_open_files(n: int, tmp_path: Path) -> None:
    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))

    done = gpt149("check", str(RIGHT), prepare=few_files, GPT149_CACHE=str(tmp_path))
    assert done.returncode in (0, 2)
    assert "FAIL" not in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_a_cache_that_may_not_be_executed(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o noexec tmpfs {tmp_path}"
    within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*within, mount], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    for command in (f"check {RIGHT}", f"lab {MODULE} part1"):
        program = f"{mount} && exec {sys.executable} -m gpt149 {command}"
        done = subprocess.run(
            [*within, program], env=os.environ | {"GPT149_CACHE": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        refused(done, "an empty kernel does not load either")
