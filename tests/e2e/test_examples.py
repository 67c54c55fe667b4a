"""The examples and the benchmark of engines run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("kernels_agree.py", r"simd +[\d,]+ tok/s, 1200 kernel calls\n\nJULIET:\n\w"),
        ("inside_llama.py", r"^\[(\d+, ){19}\d+\]$"),
        ("compiled.py", r"not: \d\.\de[+-]\d\d$"),
    ],
)
def test_example(name: str, says: str, tmp_path: Path) -> None:
    assert re.search(says, run(ROOT / "examples" / name, cwd=tmp_path).strip())


def test_the_kernel_in_python_is_right(tmp_path: Path) -> None:
    done = run("-m", "gpt149", "check", ROOT / "examples" / "online_softmax.py", cwd=tmp_path)
    assert done.startswith("PASS")


def test_every_example_is_listed() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (ROOT / "examples" / "README.md").read_text())
    assert sorted(listed) == sorted(p.name for p in (ROOT / "examples").glob("*.py"))


def test_engines_are_compared_at_several_depths(tmp_path: Path) -> None:
    engines = "gpt149;gpt149, int8;(reading the weights alone)"
    table = run(
        ROOT / "scripts" / "peers" / "engines.py", "--model", "tiny", "-p", "3", "-p", "9",
        "-n", "12", "--rounds", "1", "--threads", "1", "--engines", engines, "--plot", "depth.png",
        cwd=tmp_path,
    )  # fmt: skip
    for prompt in (3, 9):
        assert f"tiny, {prompt} + 12 tokens, 1 at once" in table
    assert len(re.findall(r"^\| gpt149 \| 1 \| [1-9].* \| [1-9].* MB \| yes \|$", table, re.M)) == 2
    assert len(re.findall(r"^\| \(reading .*\) \| 1 \| \| [1-9].* \| \| \| \|$", table, re.M)) == 2
    assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_the_cost_of_a_call_is_measured(tmp_path: Path) -> None:
    says = run(
        ROOT / "scripts" / "call_cost.py", "-m", "random:tiny", "-d", "5", "-n", "20",
        "--rounds", "1", "--threads", "1", cwd=tmp_path,
    )  # fmt: skip
    assert re.search(r"the call [1-9][\d,]* ns a layer, .*\nwith simd: a step [1-9]", says)
