"""Every command in the README and the docs runs as it stands, or says what it needs to be run.

A block that cannot run here is marked by a line before it: <!-- not run: needs the network -->.
docs/kernel-tutorial.md has a test of its own, which also holds what the commands print.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from gpt149.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "csrc/kernels/README.md",
    ROOT / "examples/README.md", ROOT / "scripts/README.md", ROOT / "weights/README.md",
]  # fmt: skip
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>.+) -->\n)?```\n(?P<code>.*?)```", re.DOTALL)
LINE = re.compile(
    r"^(?:\$ )?((?:[A-Z0-9_]+=\S+ )*(?:gpt149|python|make|pip|sbatch|ls) .*)$", re.MULTILINE
)
INLINE = re.compile(r"`((?:gpt149|python|make) [^`]+)`")
SECONDS = {"bench": ("--seconds", "2")}  # how long one measures is the reader's choice


@dataclass(frozen=True)
class Command:
    """page: where it stands. line: as it stands there. why: it is not run; empty if it is."""

    page: str
    line: str
    why: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)


def commands() -> list[Command]:
    """Those in blocks, each line once."""
    found: dict[str, Command] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            for line in LINE.findall(block["code"]):
                name = str(page.relative_to(ROOT))
                found.setdefault(line, Command(name, line, block["why"] or ""))
    return list(found.values())


RUN = [
    command
    for command in commands()
    if not command.why and command.page != "docs/kernel-tutorial.md"
]


def prepared(folder: Path, command: list[str]) -> Path:
    """A folder with what the pages speak of: mine.cpp, module.cpp, submissions/, and a checkout."""
    for name in ("tests", "examples", "csrc", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    if command[:2] != ["gpt149", "new"]:
        kernel = re.search(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        assert kernel is not None
        (folder / "mine.cpp").write_text(kernel[1])
    module = (ROOT / "tests/cs149/module.cpp").read_text()
    (folder / "module.cpp").write_text(module)
    (folder / "submissions/student").mkdir(parents=True)
    (folder / "submissions/student/module.cpp").write_text(module)
    return folder


@pytest.mark.parametrize("command", RUN, ids=lambda c: f"{c.page}: {c.line}"[:90])
def test_a_command_of_the_docs_runs(command: Command, tmp_path: Path) -> None:
    words = command.words
    if words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return
    cwd = prepared(tmp_path, words)
    program = f"{shlex.quote(sys.executable)} -m gpt149"
    longer = " ".join(SECONDS.get(words[1], ()))
    line = re.sub(r"(^|=\S+ )gpt149 ", rf"\1{program} ", command.line.partition("  #")[0])
    line = re.sub(r"(^|=\S+ )python ", rf"\1{shlex.quote(sys.executable)} ", line) + f" {longer}"
    if "--watch" in words:
        assert "PASS" in first_verdict(line, cwd)
        return
    done = subprocess.run(line, shell=True, cwd=cwd, capture_output=True, text=True)
    wrong = "wrong_kernels" in command.line  # a page shows what a wrong kernel is told
    assert done.returncode == (1 if wrong else 0), done.stderr


def first_verdict(line: str, cwd: Path) -> str:
    """What a command that never ends says first."""
    command = ["sh", "-c", f"exec {line}"]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 120
        said = ""
        while "from save to verdict" not in said and time.monotonic() < deadline:
            said += process.stdout.readline()
        process.terminate()
    return said


def test_what_is_not_run_says_what_it_needs() -> None:
    reasons = {command.why for command in commands() if command.why}
    assert reasons
    assert all(reason.startswith(("needs ", "takes ")) for reason in reasons)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_named_in_a_sentence_is_there(page: Path) -> None:
    """Options exist, scripts and make's targets too; upper case stands for something."""
    makefile = (ROOT / "Makefile").read_text()
    for line in INLINE.findall(page.read_text(encoding="utf-8")):
        program, first, *rest = shlex.split(line)
        if program == "python":
            assert first in ("-m", "-c") or (ROOT / first).is_file(), line
        elif program == "make":
            assert re.search(rf"^{first}:", makefile, re.MULTILINE), line
        elif not first.isupper():
            assert isinstance(main, click.Group)
            command = main.commands[first]
            with click.Context(command) as context:
                command.make_parser(context).parse_args(rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_linked_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_is_read_to_its_end() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
