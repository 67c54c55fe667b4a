"""docs/kernel-tutorial.md: right steps, slips that are caught, and the code of the files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpt149.check.cases import quick
from gpt149.check.report import as_text
from gpt149.check.run import check

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kernel-tutorial.md").read_text(encoding="utf-8")
SECTIONS = [s for s in re.split(r"^## ", PAGE, flags=re.MULTILINE) if re.match(r"\d\. ", s)]
FILES = sorted((ROOT / "examples" / "tutorial").glob("*.cpp"))
STEPS = list(zip(FILES, SECTIONS, strict=True))
NAMES = [file.stem for file in FILES]


def blocks(section: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def code_lines(source: str) -> set[str]:
    """Without comments of their own lines, and without what the kernel says of itself."""
    lines = source.partition("GPT149_KERNEL")[0].splitlines()
    return {line for line in lines if line and not line.startswith("//")}


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_the_step_is_right(file: Path) -> None:
    report = check(str(file), quick(), timeout=30.0)
    assert report.right, [o.case.name for o in report.failed]


@pytest.mark.parametrize("march", ["x86-64-v3", "x86-64"])
def test_the_last_step_is_right_on_narrower_vectors(
    march: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT149_MARCH", march)
    report = check(str(FILES[-1]), quick(), timeout=30.0)
    assert report.right, [o.case.name for o in report.failed]


@pytest.mark.parametrize(("file", "section"), STEPS, ids=NAMES)
def test_the_slip_has_the_cause_that_the_page_quotes(
    file: Path, section: str, tmp_path: Path
) -> None:
    (diff,) = blocks(section, "diff")
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    source = file.read_text()
    assert source.count(before) == 1
    mine = tmp_path / "mine.cpp"
    mine.write_text(source.replace(before, after))
    report = check(str(mine), quick(), timeout=30.0)
    finding = report.findings[0]
    assert f"\n  Cause: {finding.cause}: {finding.sentence}" in section
    case = r"^  (?:Shown|Smallest): .*"
    if quoted := re.findall(case, section, re.MULTILINE):
        assert quoted == re.findall(case, as_text("mine.cpp", report), re.MULTILINE)


@pytest.mark.parametrize(("file", "section"), STEPS, ids=NAMES)
def test_the_page_shows_the_code_of_the_file(file: Path, section: str) -> None:
    assert f"(../examples/tutorial/{file.name})" in section
    source, shown = file.read_text(), blocks(section, "cpp")
    for block in shown:
        assert block in source
    number = FILES.index(file)
    known = code_lines(FILES[number - 1].read_text()) if number else set()
    assert code_lines(source) - known <= set("".join(shown).splitlines())


def test_times_of_the_steps_are_those_of_the_table() -> None:
    row = r"^\| \[(\w+)\]\(\.\./examples/tutorial/\1\.cpp\) \|[^|]*\| ([\d.]+) \| ([\d.]+) \|"
    rows = re.findall(row, PAGE, re.MULTILINE)
    assert [name for name, _, _ in rows] == NAMES
    for section, (_, ms, rate) in zip(SECTIONS, rows, strict=True):
        assert f"\nSpeed: {ms} ms, {rate} GFLOP/s.\n" in section
    times = [float(ms) for _, ms, _ in rows]
    assert times == sorted(times, reverse=True)
