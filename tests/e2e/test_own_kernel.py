"""From an empty file to text: `new`, `check --watch`, `generate`, as their users type them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cs149.mistakes import MODULE

from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.cli import main
from gpt149.kernels.registry import CONTRACT_BUILTINS, resolve


def gpt149(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("name", ["mine.cpp", "mine.py"])
def test_new_writes_a_right_kernel(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    done = gpt149("new", file)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"gpt149 check {file} --watch" in done.stderr
    assert resolve(file).name == "mine"
    report = check(str(file), quick(), timeout=30.0)
    assert report.right
    text = file.read_text()
    assert "NAME" not in text
    assert "FILE" not in text
    done = gpt149("new", file)
    assert done.exit_code == 2
    assert "is there already, and is left as it is" in done.stderr
    assert file.read_text() == text


@pytest.mark.parametrize("start", CONTRACT_BUILTINS)
def test_new_from_a_shipped_kernel(start: str, tmp_path: Path) -> None:
    file = tmp_path / "faster.cpp"
    assert gpt149("new", file, "--from", start).exit_code == 0
    assert file.read_text().startswith(f"// faster, from {start}: ")
    kernel = resolve(file)
    assert (kernel.name, kernel.idea) == ("faster", resolve(start).idea)


def test_what_new_refuses(tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path / "mine.cu",), "must end in .cpp, .cc, .cxx, .c, .rs, .zig or .py"),
        ((tmp_path / "mine.cpp", "--from", "torch"), "must be one of naive, blocked, fused, flash"),
        ((tmp_path / "mine.py", "--from", "flash"), "for a .cpp file"),
        ((tmp_path / "none" / "mine.cpp",), "cannot write"),
    ):
        done = gpt149("new", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_generate_through_files_of_every_kind(tmp_path: Path, tiny_model_dir: Path) -> None:
    gpt149("new", tmp_path / "mine.cpp")
    gpt149("new", tmp_path / "mine.py")
    told = []
    for kernel in ("reference", "mine.cpp", "./mine.py", f"{MODULE}:part4"):
        command = [sys.executable, "-m", "gpt149", "generate", "ab", "-m", str(tiny_model_dir)]
        options = ["-n", "20", "--temperature", "0", "--json", "-a", kernel]
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        told.append(json.loads(done.stdout)["samples"][0]["token_ids"])
    assert told[1:] == told[:1] * 3
    done = subprocess.run(
        [*command, "-a", f"{MODULE}:part1", "-n", "2"], capture_output=True, text=True, check=True
    )
    assert "a decode step of t tokens may cost O(t^2)" in done.stderr


def test_a_python_kernel_that_raises_ends_in_a_sentence(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def attention(q, k, v, *, causal, scale):\n    return q / None\n")
    command = [sys.executable, "-m", "gpt149", "generate", "ab", "-m", str(tiny_model_dir)]
    done = subprocess.run([*command, "-a", str(file)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "mine.py raised TypeError at mine.py:2" in done.stderr
    assert "Traceback" not in done.stderr


def test_code_that_runs_at_loading_cannot_hurt_the_judge(tmp_path: Path) -> None:
    file = tmp_path / "mine.cpp"
    gpt149("new", file)
    text = file.read_text()
    file.write_text(f"{text}\n__attribute__((constructor)) static void f() {{ __builtin_trap(); }}")
    done = gpt149("check", file, "--case", "n17")
    assert done.exit_code == 1
    assert "Cause: crash: the kernel crashes" in done.stdout
    assert "while it is loaded" in done.stdout


class Watch:
    """`gpt149 check --watch` in a process, and its verdicts one after the other."""

    def __init__(self, spec: Path) -> None:
        command = [sys.executable, "-m", "gpt149", "check", str(spec), "--case", "n17"]
        command += ["--watch", "--log"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def verdict(self) -> str:
        """What it prints next; it is killed if that takes too long."""
        assert self.process.stdout is not None
        lines = []
        timer = threading.Timer(60, self.process.kill)
        timer.start()
        for line in self.process.stdout:
            lines.append(line)
            if "from save to verdict" in line:
                break
        timer.cancel()
        return "".join(lines)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "sum.h").write_text("#define SUM l\n")
    file = tmp_path / "mine.cpp"
    gpt149("new", file)
    text = file.read_text().replace("s[j] / l", "s[j] / SUM")
    file.write_text(f'#include "sum.h"\n{text}')
    one = Watch(file)
    yield one
    one.process.kill()
    one.process.wait()
    assert one.process.stdout is not None
    one.process.stdout.close()


def test_watch_judges_at_every_save(watch: Watch, tmp_path: Path) -> None:
    file, header = tmp_path / "mine.cpp", tmp_path / "sum.h"
    first = watch.verdict()
    assert f"PASS {file}" in first
    assert "GFLOP/s" in first
    header.write_text("#define SUM 1\n")  # in place
    assert "Cause: unnormalised" in watch.verdict()
    new = tmp_path / "new.h"
    new.write_text("#define SUM (l)\n")
    new.replace(header)  # as editors save
    again = watch.verdict()
    assert f"PASS {file}" in again
    assert "Before: " in again
    text = file.read_text()
    file.write_text(text.replace("return nullptr;", "return nothing;"))
    assert "nothing" in watch.verdict()
    file.unlink()  # before it is looked for, or behind that
    assert re.search("no kernel file|cannot read the kernel source", watch.verdict())
    file.write_text(text)
    assert any(f"PASS {file}" in watch.verdict() for _ in range(2))
    time.sleep(0.3)
    assert watch.process.poll() is None
    rows = [[cell.strip() for cell in r.split("|")] for r in gpt149("log", file).stdout.split("\n")]
    assert [row[2] for row in rows[2:6]] == ["PASS", "FAIL", "PASS", "FAIL"]
    assert [row[3] for row in rows[2:5]] == ["", "unnormalised", ""]
    assert float(rows[2][4]) > 0
    assert [row[5] for row in rows[2:6]] == ["", "+0 -0", "+0 -0", "+1 -1"]


def test_a_log_is_for_who_watches_a_file_of_ones_own() -> None:
    for arguments, said in (
        (["--log"], "--log is for --watch"),
        (["--watch", "--log"], "of yours"),
    ):
        done = gpt149("check", "flash", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr


def test_watch_is_for_one_kernel() -> None:
    for arguments in (("flash", "naive"), ("flash", "--json")):
        done = gpt149("check", *arguments, "--watch")
        assert done.exit_code == 2
        assert "--watch is for one kernel" in done.stderr


def test_a_crash_names_every_kernel_that_may_have_been_it(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    right, wrong = tmp_path / "right.cpp", tmp_path / "wrong.cpp"
    assert gpt149("new", right).exit_code == 0
    start = "static const char *run(const gpt149_args *a) {"
    assert start in right.read_text()
    wrong.write_text(right.read_text().replace(start, f"{start}\n    __builtin_trap();"))
    files = [str(right), str(wrong)]
    command = [sys.executable, "-m", "gpt149", "diff", *files, "-p", "a", "-m", str(tiny_model_dir)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{files[0]} or {files[1]} crashed with SIGILL" in done.stderr
    assert f"gpt149 check {files[0]} {files[1]}" in done.stderr


def test_a_crash_behind_the_last_word_is_told(tmp_path: Path, tiny_model_dir: Path) -> None:
    file = tmp_path / "last.cpp"
    assert gpt149("new", file).exit_code == 0
    file.write_text(
        file.read_text() + "struct Last { ~Last() { __builtin_trap(); } };\nstatic Last last;\n"
    )
    command = [sys.executable, "-m", "gpt149", "generate", "a", "-a", str(file), "-n", "2"]
    done = subprocess.run([*command, "-m", str(tiny_model_dir)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "crashed with SIGILL" in done.stderr


@pytest.mark.parametrize("odd", ["\\", "\n", "\t", "\r", "\x1e"])
@pytest.mark.parametrize("ending", ["cpp", "py"])
def test_what_no_path_of_a_kernel_may_hold(odd: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"a{odd}b.{ending}"
    done = gpt149("new", file)
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert f"there is {odd!r} in its path" in done.stderr
    file.write_text("")
    done = gpt149("check", file)
    assert done.exit_code == 2
    assert f"there is {odd!r} in its path" in done.stderr


@pytest.mark.parametrize("odd", ["-", """ '" $HOME `a` # %d {x} *? : | é"""])
def test_odd_paths_of_kernels_work_everywhere(odd: str, tmp_path: Path) -> None:
    file = tmp_path / odd / f"{odd}b.cpp"
    file.parent.mkdir()
    assert gpt149("new", file).exit_code == 0
    done = gpt149("check", file, "--case", "n17")
    assert done.stdout.startswith(f"PASS {file}: ")
    past_end = "gpt149_out(a, a->batch, 0, 0)[0] = 0; return nullptr;"
    file.write_text(file.read_text().replace("return nullptr;", past_end))
    done = gpt149("check", file, "--case", "n17", "--sanitize", "address")
    assert re.search(re.escape(f"WRITE of size 4 at {file.name}:") + r"\d+, in", done.stdout)
    (file.parent / "own.h").touch()
    file.write_text('#include "own.h"\n' + MODULE.read_text())
    assert resolve(f"{file}:part4").adapted
    file.write_text(file.read_text().replace("PYBIND11_MODULE", "no_such_name;\nPYBIND11_MODULE"))
    done = gpt149("check", f"{file}:part4")
    assert re.search(re.escape(f"{file}:") + r"\d+:\d+: error: 'no_such_name'", done.output)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="there is no setpriv, for who is root")
def test_what_is_not_permitted_is_said_with_the_files_name(tmp_path: Path) -> None:
    for name in ("mine.cpp", "mine.py", "module.cpp", "closed/mine.cpp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(MODULE.read_text() if "module" in name else "")
        (tmp_path / name).chmod(0)
    (tmp_path / "closed").chmod(0)
    powers = "-dac_override,-dac_read_search"
    powerless = ["setpriv", f"--inh-caps={powers}", f"--bounding-set={powers}"]
    prefix = powerless if os.geteuid() == 0 else []
    for command, name in (
        ("check", "mine.cpp"),
        ("check", "mine.py"),
        ("check", "module.cpp"),
        ("check", "closed/mine.cpp"),
        ("generate Hi -a", "./mine.cpp"),
        ("generate Hi -a", "./mine.py"),
        ("new --editor", "mine.cpp"),
        ("lab", "module.cpp"),
        ("lab", "closed"),
        ("new", "closed/other.cpp"),
    ):
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "gpt149", *command.split(), name],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 2, (command, done.stderr)
        assert name.removeprefix("./") in done.stderr
        assert done.stderr.splitlines()[-1].endswith(": Permission denied.")
    (tmp_path / "closed").chmod(0o700)


def test_new_writes_a_path_that_is_no_utf8(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"a\xff.cpp")
    assert gpt149("new", file).exit_code == 0
    assert resolve(file).name == "mine"
