"""What instructors write: rubrics and lists of cases, and what becomes of nonsense."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from cs149.mistakes import MISTAKES, MODULE, with_mistake

from gpt149.check.listed import read_cases
from gpt149.cli import main
from gpt149.errors import InputError
from gpt149.lab.parts import PARTS, listed_for, read_listed
from gpt149.lab.rubric import Limit, Rubric, Terms, interval, judged_speed, read_rubric
from gpt149.lab.run import Settings, judge_submission

WITHIN = (Limit(1.0, within=1.2), Limit(0.8, within=1.5))
ROUNDS = 11
ROOT = Path(__file__).parents[2]


def written(folder: Path, content: object) -> Path:
    file = folder / "file.json"
    file.write_text(json.dumps(content))
    return file


def test_what_a_rubric_does_not_name_is_stanfords(tmp_path: Path) -> None:
    assert read_rubric(written(tmp_path, {})) == Rubric()
    assert sum(terms.points for terms in Rubric().terms.values()) == 93
    speed = [{"within": 120, "share": 100}, {"within": 150, "share": 80}]
    content = {"part1": {"points": 7, "right": 90, "partial": True, "speed": speed}, "rounds": 6}
    rubric = read_rubric(written(tmp_path, content))
    assert rubric.terms["part1"] == Terms(7, 0.9, partial=True, speed=WITHIN)
    assert (rubric.rounds, rubric.terms["part2"]) == (6, Terms(20))
    assert [rubric.terms["part1"].share_of(share) for share in (1.0, 0.9, 0.5)] == [1, 1, 0.5]
    assert Terms(1).share_of(0.99) == 0


def test_toml_is_read_where_python_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "rubric.toml"
    file.write_text("[part3]\npoints = 3\nspeed = [{ seconds = 0.05, share = 100 }]\n")
    pytest.importorskip("tomllib")
    assert read_rubric(file).terms["part3"] == Terms(3, speed=(Limit(1.0, seconds=0.05),))
    file.write_text("[part3\n")
    with pytest.raises(InputError, match=r"rubric\.toml is not TOML"):
        read_rubric(file)


def test_the_examples_of_the_docs_are_read(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    files = []
    for page in ("docs/lab.md", "docs/check.md"):
        for i, block in enumerate(
            re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text(), re.S)
        ):
            files.append(tmp_path / f"{Path(page).stem}{i}.toml")
            files[-1].write_text(block)
    ours, rubric, theirs = files
    (one,) = read_listed(ours).listed
    assert (one.case.br, one.case.bc, one.parts, one.hidden) == (64, 48, ("part4",), False)
    assert len(read_rubric(rubric).terms["part3"].speed) == 3
    assert [(case.n_q, case.n_kv) for case in read_cases(theirs)] == [(200, 200), (1, 5000)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"part5": {}}, "there is no 'part5'. Known: rounds, 4Daccess"),
        ({"part1": {"pionts": 3}}, "part1: there is no 'pionts'. Known: points"),
        ({"4Daccess": {"speed": []}}, "there is no 'speed'"),
        ({"part1": 3}, "must be a table, and is 3"),
        ({"part1": {"points": -1}}, "points is -1, and must be from 0"),
        ({"part1": {"points": True}}, "must be a number, and is True"),
        ({"part1": {"partial": 1}}, "must be true or false"),
        ({"rounds": 3}, "rounds is 3, and must be from 6"),
        ({"part1": {"speed": [{"within": 150}, {"within": 120}]}}, "must ascend"),
        (
            {"part1": {"speed": [{"within": 120, "share": 50}, {"within": 150, "share": 80}]}},
            "must not earn more",
        ),
        ({"part1": {"speed": [{"within": 150}, {"seconds": 200}]}}, "all seconds, or all within"),
        ({"part1": {"speed": [{"share": 50}, {"within": 120}]}}, "the last alone"),
    ],
)
def test_a_rubric_that_means_nothing_is_refused(content: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_rubric(written(tmp_path, content))
    assert said in str(refused.value)
    assert "file.json" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "has no cases"),
        ({"case": [{"n": 3}]}, "case 1: it needs a name"),
        ({"case": [{"name": "a", "n": 3}, {"name": "a", "n": 4}]}, "there is another 'a'"),
        ({"case": [{"name": "a"}]}, "'a': it needs n, or n_q and n_kv"),
        ({"case": [{"name": "a", "n": 3.5}]}, "must be a whole number"),
        ({"case": [{"name": "a", "n": 3, "inputs": "odd"}]}, "must be one of normal"),
        ({"case": [{"name": "a", "n_q": 9, "n_kv": 3}]}, "n_q <= n_kv"),
        ({"case": [{"name": "a", "n": 3, "n_head": 3, "n_kv_head": 2}]}, "a multiple"),
        ({"case": [{"name": "a", "n": 1000000}]}, "products, and may have"),
        ({"case": [{"name": "a", "n": 3, "bs": 3}]}, "there is no 'bs'"),
    ],
)
def test_a_case_that_means_nothing_is_refused(content: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_cases(written(tmp_path, content))
    assert said in str(refused.value)


def test_an_interval_holds_the_median_and_needs_no_distribution() -> None:
    assert interval(list(range(1, 12))) == (2, 10)
    assert interval(list(range(1, 7))) == (1, 6)


@pytest.mark.parametrize(
    ("ratios", "limits", "share"),
    [
        ([1.1] * ROUNDS, WITHIN, 1.0),
        ([1.3] * ROUNDS, WITHIN, 0.8),
        ([1.1, 1.1, *[1.3] * 9], WITHIN, 1.0),  # noise takes no points
        ([1.1, *[1.3] * 10], WITHIN, 0.8),  # one run gives none
        ([2.0] * ROUNDS, WITHIN, 0.0),
        ([2.0] * ROUNDS, (*WITHIN, Limit(0.5)), 0.5),
        ([], WITHIN, 0.0),
    ],
)
def test_speed_is_judged_by_an_interval(
    ratios: list[float], limits: tuple[Limit, ...], share: float
) -> None:
    assert judged_speed(limits, ratios, [1.0] * ROUNDS).share == share


def test_what_speed_costs_is_said() -> None:
    seconds = (Limit(0.7, seconds=0.2),)
    assert judged_speed(WITHIN, [1.3] * ROUNDS, [1.0] * ROUNDS).sentence == (
        "130 % of the reference (95 %: 130 % to 130 %, 11 rounds in turn): within 150 %, "
        "80 % of the points"
    )
    assert judged_speed(seconds, [0.15] * ROUNDS, []).sentence == (
        "0.15 s (95 %: 0.15 s to 0.15 s, 11 rounds in turn): within 0.20 s, 70 % of the points"
    )
    assert judged_speed(WITHIN, [1.0] * ROUNDS, []).share == 1


def test_a_share_of_the_cases_earns_a_share_of_the_points(tmp_path: Path) -> None:
    file = tmp_path / "module.cpp"
    file.write_text(with_mistake(MODULE.read_text(), MISTAKES["tail of keys"]))
    cases = [{"name": f"n{n}", "n": n, "parts": ["part2"]} for n in (32, 64, 96, 33)]
    listed = read_listed(written(tmp_path, {"case": cases}))
    rubric = Rubric(
        {**Rubric().terms, "part2": Terms(20, partial=True, speed=(Limit(0.5),))}, rounds=6
    )
    settings = Settings(n=64, threads=2, rubric=rubric, cases=listed)
    (result,) = judge_submission(file, ["part2"], settings).results
    assert (result.status, result.points, result.most) == ("wrong", 20 * 0.75 * 0.5, 20)
    assert "FAIL" in result.report
    assert f"--cases {listed.path} -N 64 --threads 2 --case n33" in result.report
    assert result.student is not None
    assert len(result.student.walls) == 6
    with pytest.raises(InputError, match="has no case for part1"):
        listed_for(PARTS[0], listed, 1, 1, 149)


def test_check_asks_the_cases_of_a_file_and_says_so(tmp_path: Path) -> None:
    file = written(tmp_path, {"case": [{"name": "mine", "n": 21, "head_dim": 24}]})
    wrong = Path(__file__).parents[1] / "wrong_kernels" / "k_indices_exchanged.cpp"
    done = CliRunner().invoke(main, ["check", str(wrong), "--cases", str(file)])
    assert (done.exit_code, "1 of 1 cases" in done.stdout) == (1, True)
    assert f"Rerun: gpt149 check {wrong} --cases {file} --case mine" in done.stdout
    content = {"case": [{"name": "a", "n": 9}, {"name": "b", "n": 9, "window": 4}]}
    right = Path(__file__).parents[1] / "right_kernels" / "plain_sequential.cpp"
    listed = str(written(tmp_path, content))
    done = CliRunner().invoke(main, ["check", str(right), "--cases", listed])
    assert (done.exit_code, "1 cases in" in done.stdout) == (0, True)
    assert "Not asked, since it does not claim what they need: b." in done.stdout
    for refused in (["--full"], ["--case", "n33"]):
        done = CliRunner().invoke(main, ["check", "flash", "--cases", str(file), *refused])
        assert (done.exit_code, done.stdout) == (2, "")
