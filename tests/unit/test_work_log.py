"""The work log of a kernel: what `check --watch --log` keeps, and `gpt149 log` shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpt149.cli import main
from gpt149.commands.log import Log, path_of
from gpt149.errors import BuildError


def log(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["log", *map(str, arguments)])


def test_each_verdict_is_a_row_with_the_size_of_the_change(tmp_path: Path) -> None:
    kernel = tmp_path / "mine.cpp"
    kernel.write_text("one\ntwo\nthree\n")
    kept = Log(kernel)
    kept.look()
    kernel.write_text("one\n2\n2.5\nthree\n")  # while the first is judged
    kept.add(BuildError("mine.cpp does not compile: | here\nand more"))
    kept.look()
    kept.add(BuildError("again"))
    entries = [json.loads(line) for line in path_of(kernel).read_text().splitlines()]
    assert [(e["verdict"], e["added"], e["removed"], e["ms"]) for e in entries] == [
        ("FAIL", None, None, None),
        ("FAIL", 2, 1, None),
    ]
    with path_of(kernel).open("a") as file:
        file.write('{"time": "2026-11-26T14:35:00+00:00", "verdict": "PASS", "ms": 1.25}\n')
    rows = log(kernel).stdout.splitlines()
    assert rows[0] == "| time | verdict | cause | ms | lines |"
    assert rows[2].endswith(r"| FAIL | mine.cpp does not compile: \| here |  |  |")
    assert rows[3].endswith("| FAIL | again |  | +2 -1 |")
    assert rows[4] == "| 11-26 14:35 | PASS |  | 1.25 |  |"
    png = tmp_path / "log.png"
    assert log(kernel, "--png", png).exit_code == 0
    assert png.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[", "line 2 is no entry of a work log"),
        ('{"time": 3}', "line 2 is no entry of a work log"),
        ('{"time": "2026-11-26", "verdict": "MAYBE"}', "verdict must be one of PASS, FAIL"),
        ('{"time": "2026-11-26", "verdict": "PASS", "ms": "1"}', "ms must be a number"),
        ('{"time": "2026-11-26", "verdict": "PASS", "share": 1}', "there is no 'share'"),
    ],
)
def test_what_is_no_log_is_said(line: str, said: str, tmp_path: Path) -> None:
    kernel = tmp_path / "mine.cpp"
    assert "gpt149 check" in log(kernel).stderr
    path_of(kernel).write_text(f'{{"time": "2026-11-26", "verdict": "PASS"}}\n{line}\n')
    done = log(kernel)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
