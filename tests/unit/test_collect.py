"""Results of many machines become one table, whatever some of the files hold."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cs149.mistakes import MISTAKES

from gpt149.cli import main
from gpt149.lab.parts import PARTS
from gpt149.lab.run import Result as PartResult
from gpt149.lab.run import Submission
from gpt149.lab.timing import Timing

BAD = {
    "empty": "",
    "list": "[1]",
    "text": '"right"',
    "other": '{"path": "a", "results": [{"name": "part9"}], "error": "", "seconds": 1}',
    "nan": '{"path": "a", "results": [], "error": "", "seconds": NaN}',
    "deep": "[" * 100_000,
}


def collect(pattern: object, *more: str) -> Result:
    return CliRunner().invoke(main, ["lab", "--collect", str(pattern), *more])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """300 submissions: of every kind of mistake that the test modules have, and right ones."""
    causes = [None, *((f"part{m.part}", m.cause) for m in MISTAKES.values())]
    for i in range(300):
        wrong = causes[i % len(causes)]
        parts = [
            PartResult(part.name, 0, part.points, "wrong", wrong[1], "FAIL\n  Cause: ...")
            if wrong and wrong[0] == part.name
            else PartResult(part.name, part.points, part.points, "right",
                            student=Timing(1, 1, 1, 1), reference=Timing(1, 1, 1, 1))
            for part in PARTS
        ]  # fmt: skip
        submission = Submission(f"student{i:03}/module.cpp", parts, "", 1.5)
        (tmp_path / f"{i:03}.json").write_text(json.dumps(asdict(submission)))
    return tmp_path


def test_a_class_is_one_table_and_a_bad_file_is_a_row(results: Path) -> None:
    done = collect(results / "*.json", "--format", "csv")
    assert (done.exit_code, done.stderr) == (0, "")
    for name, content in BAD.items():
        (results / f"{name}.json").write_text(content)
    (results / "folder.json").mkdir()
    done = collect(results / "*.json", "--format", "csv")
    assert done.exit_code == 1
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(table) == 300 + len(BAD) + 1
    assert table[0]["submission"] == "student000/module.cpp"
    assert {row["points"] for row in table[:300]} == {"90", "80", "70", "65", "55"}
    assert all(row["why"] == "" for row in table[:300])
    assert all(Path(row["submission"]).name in row["why"] for row in table[300:])
    text = collect(results / "*.json").stdout
    n_right = -(-300 // (1 + len(MISTAKES)))
    assert f"300 submissions, {n_right} right in all that was asked" in text
    assert f"{len(BAD) + 1} without results" in text
    (flat,) = [
        line.split() for line in text.splitlines() if " k_flat_reshape  " in line and "#" in line
    ]
    alone = sum(row["part1"] == "k_flat_reshape" for row in table[:300])
    every = sum("k_flat_reshape" in row["part1"] for row in table[:300])
    assert int(flat[2]) == every > alone  # also beside another mistake


class Cells(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.n_rows, self.words = 0, list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.n_rows += tag == "tr"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_has_every_submission_and_escapes_names(results: Path) -> None:
    one = Submission(
        "<b>eve/module.cpp", [PartResult("part1", 0, 10, "does not compile")], "no;\nx"
    )
    (results / "eve.json").write_text(json.dumps([asdict(one)]))
    out = results / "class.html"
    assert collect(results / "*.json", "--format", "html", "-o", str(out)).exit_code == 0
    page = out.read_text()
    assert "<b>" not in page
    cells = Cells(page)
    assert "<b>eve/module.cpp" in cells.words
    assert "no;" in cells.words
    kinds = {(m.part, cause) for m in MISTAKES.values() for cause in m.cause.split(" + ")}
    assert cells.n_rows == 2 + 301 + len(kinds) + 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lab", "--collect", "none/*.json"], "there are no files none/*.json"),
        (["lab", "--collect", "a.json", "b.json"], "one pattern, in quotes"),
        (["lab", "--collect", "*", "--format", "gradescope"], "no --format gradescope"),
        (["lab", "module.cpp", "--format", "html"], "--format html is for --collect"),
        (["lab"], "there is nothing to judge"),
    ],
)
def test_what_cannot_be_collected_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
