"""The autograder's zip, unpacked in a folder of its own, grades a submission by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from click.testing import CliRunner
from cs149.mistakes import MISTAKES, MODULE, with_mistake

from gpt149.cli import main
from gpt149.lab.autograder import autograder
from gpt149.lab.parts import read_listed
from gpt149.lab.rubric import read_rubric
from gpt149.lab.run import Settings, judge_submission

CASES = {
    "case": [
        {"name": "seen", "n": 20},
        {"name": "kept", "n": 33, "hidden": True, "parts": ["part1", "part2"]},
    ]
}
RUBRIC = {"part2": {"points": 30, "hidden": 40}, "part4": {"points": 5}}


def test_the_zip_grades_by_itself_and_hides_what_is_hidden(tmp_path: Path) -> None:
    for name, content in (("mine.json", CASES), ("points.json", RUBRIC)):
        (tmp_path / name).write_text(json.dumps(content))
    settings = Settings(
        n=48,
        threads=2,
        rubric=read_rubric(tmp_path / "points.json"),
        cases=read_listed(tmp_path / "mine.json"),
    )
    grader = tmp_path / "grader"
    for folder in ("submission", "results"):
        (grader / folder).mkdir(parents=True)
    (tmp_path / "out.zip").write_bytes(autograder(settings, base=str(grader)))
    (tmp_path / "mine.json").unlink()  # what is needed is inside
    (tmp_path / "points.json").unlink()
    with ZipFile(tmp_path / "out.zip") as file:
        file.extractall(grader / "source")
        modes = {i.filename: i.external_attr >> 16 for i in file.infolist()}
    assert modes["setup.sh"] & modes["run_autograder"] & 0o111
    assert not [name for name in modes if name.startswith("weights") or "pycache" in name]
    setup = (grader / "source" / "setup.sh").read_text()
    assert all(f"'{name}" in setup for name in ("numpy>", "torch>", "ninja>"))
    assert "extra" not in setup
    (grader / "venv").symlink_to(sys.prefix)
    module = with_mistake(MODULE.read_text(), MISTAKES["tail of keys"])
    (grader / "submission" / "module.cpp").write_text(module)
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "GPT149_CACHE", "CXX")}
    done = subprocess.run(
        ["bash", grader / "source" / "run_autograder"], cwd="/", env=kept, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((grader / "results" / "results.json").read_text())
    said = {t["name"]: (t["score"], t["max_score"], t["visibility"]) for t in found["tests"]}
    assert said == {
        "fourDimRead": (1.5, 1.5, "visible"),
        "fourDimWrite": (1.5, 1.5, "visible"),
        "part1": (5, 5, "visible"),
        "part1 hidden": (5, 5, "after_published"),
        "part2": (0, 18, "visible"),
        "part2 hidden": (0, 12, "after_published"),
        "part3": (25, 25, "visible"),
        "part4": (5, 5, "visible"),
    }
    assert found["score"] == 43
    leaders = {row["name"] for row in found["leaderboard"]}
    assert leaders == {f"part{n}, {unit}" for n in (1, 3, 4) for unit in ("ms", "x reference")}
    assert found["extra_data"]["causes"]["part2"] == "mask_wrong"


def test_a_hidden_seed_asks_other_cases_behind_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(json.dumps({"case": [{"name": "one", "n": 33}]}))
    file = tmp_path / "module.cpp"
    file.write_text(with_mistake(MODULE.read_text(), MISTAKES["flat"]))
    settings = Settings(n=48, threads=2, cases=read_listed(tmp_path / "cases.json"), hidden_seed=9)
    shown, hidden = judge_submission(file, ["part1"], settings).results
    assert (shown.name, hidden.name) == ("part1", "part1 hidden")
    assert "n_q=33 n_kv=33" in shown.report
    assert "n_q=33 n_kv=33" not in hidden.report
    assert "--seed 9 --case one" in hidden.report
    assert "--seed" not in shown.report
    assert (shown.most, hidden.most, hidden.student) == (5, 5, None)


def test_an_autograder_takes_no_submission(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["lab", "module.cpp", "--autograder", str(tmp_path / "a.zip")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "takes no file but its own" in done.stderr
