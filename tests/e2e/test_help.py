"""What a newcomer reads first: `gpt149`, `gpt149 --help`, and the help of every command."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from cs149.mistakes import MODULE

from gpt149.cli import main
from gpt149.usage import Command

COMMANDS = {n: c for n, c in main.commands.items() if isinstance(c, Command)}
CHEAP = ("generate", "kernels", "new", "diff", "attn", "eval")  # to run


def shown(*arguments: str, columns: int = 80) -> str:
    done = CliRunner().invoke(main, [*arguments], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0
    assert done.stderr == ""
    return done.stdout


def examples(text: str) -> list[str]:
    """The command lines, without what is said of them."""
    return [line.partition("  ")[0] for line in text.splitlines()]


def test_gpt149_alone_says_what_to_try_first() -> None:
    told = shown()
    assert re.findall(r"^  gpt149 (\w+)", told, re.MULTILINE) == ["generate", "new", "check"]
    assert "gpt149 --help" in told


def test_an_unknown_command_is_still_a_wrong_question() -> None:
    done = CliRunner().invoke(main, ["generat"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such command 'generat'" in done.stderr


def test_every_command_has_one_whole_line() -> None:
    listed = shown("--help").partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS) == list(main.commands)
    for line in listed:
        assert "..." not in line
        assert line.endswith((".", "?"))


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_in_one_group_and_says_what_it_does(name: str, columns: int) -> None:
    told = shown(name, "--help", columns=columns)
    assert max(map(len, told.splitlines())) <= min(columns, 100)
    sections = dict(re.findall(r"^(\w[^\n]*):\n((?:  .*\n)+)", told, re.MULTILINE))
    del sections["Examples"]
    assert list(sections)[-1] == "Other options"
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert option.help, option.opts
            start = ", ".join(sorted(option.opts, key=len))
            holding = [
                title for title, text in sections.items() if re.search(rf"(?m)^  {start}\b", text)
            ]
            assert holding == [getattr(option, "group")]  # noqa: B009


def test_a_default_is_not_parted_from_its_name() -> None:
    for name in COMMANDS:
        assert "default:\n" not in shown(name, "--help")
        assert shown(name, "--help").isascii()


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_end_the_help_and_are_understood(name: str) -> None:
    text = COMMANDS[name].examples
    assert shown(name, "--help").split("Examples:\n")[1].split("\n") == [
        *(f"  {line}" for line in text.splitlines()),
        "",
    ]
    assert 2 <= len(text.splitlines()) <= 3
    own = []
    for line in examples(text):
        program, command, *arguments = shlex.split(line.partition(" >")[0])
        assert program == "gpt149"
        COMMANDS[command].make_context(command, arguments)
        own.append(command)
    assert name in own


@pytest.mark.parametrize("name", CHEAP)
def test_examples_run(name: str, tmp_path: Path) -> None:
    shutil.copy(MODULE, tmp_path / "module.cpp")
    lines = examples(COMMANDS[name].examples)
    if any("mine.cpp" in line for line in lines) and name != "new":
        lines.insert(0, "gpt149 new mine.cpp")
    for line in lines:
        command = line.replace("gpt149", f"{shlex.quote(sys.executable)} -m gpt149", 1)
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
