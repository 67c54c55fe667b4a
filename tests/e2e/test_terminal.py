"""What a terminal gets and a pipe does not: colours, whole words, progress, hints."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cs149.mistakes import MODULE

from gpt149.commands import terminal
from gpt149.lab.run import Settings, judge_submission
from gpt149.system import terminal as line

WRONG = Path(__file__).parents[1] / "wrong_kernels" / "tail_queries_unwritten.cpp"
GREEN_PASS, RED_FAIL = "\033[1;32mPASS\033[0m", "\033[1;31mFAIL\033[0m"
COLOUR_VARIABLES = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TERM")
SLEEPY = """
#include "gpt149.h"
#include <cstdio>
#include <unistd.h>
static int64_t none(const gpt149_args *) { return 0; }
static const char *run(const gpt149_args *) {
    if (access(SLEPT, F_OK)) usleep(1600000); // once
    return fclose(fopen(SLEPT, "w")), nullptr;
}
GPT149_KERNEL({"sleepy", "sleeps", "1", none, run})
"""


def environment(**more: str) -> dict[str, str]:
    """The environment, in which nothing speaks about colours but `more`."""
    silent = {name: v for name, v in os.environ.items() if name not in COLOUR_VARIABLES}
    return silent | {"TERM": "xterm"} | more


def on_terminal(*arguments: str | Path, stdout: int | None = None, **more: str) -> tuple[str, str]:
    """What a command writes to a terminal, and to its stdout where that is a pipe."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "gpt149", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=slave if stdout is None else stdout, stderr=slave,
        text=True, env=environment(**more),
    ) as process:  # fmt: skip
        os.close(slave)
        written = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # Linux says so at the end
                break
            if not data:
                break
            written += data
        piped = process.stdout.read() if process.stdout else ""
    os.close(master)
    return written.decode().replace("\r\n", "\n"), piped


def piped(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpt149", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**more))


def test_verdicts_are_coloured_on_a_terminal() -> None:
    right, _ = on_terminal("check", "naive", "--case", "n17")
    assert f"{GREEN_PASS} naive" in right
    wrong, _ = on_terminal("check", WRONG, "--case", "n33")
    assert RED_FAIL in wrong
    assert re.search(r"  Cause: \033\[1m\w+\033\[0m: ", wrong)
    plain, _ = on_terminal("check", "naive", "--case", "n17", NO_COLOR="1")
    assert "PASS naive" in plain


def test_pipes_and_json_have_no_colours() -> None:
    for arguments in (("naive",), ("naive", "--json"), (WRONG,), ("naive", WRONG)):
        done = piped("check", *arguments, "--case", "n33")
        assert "\033" not in done.stdout
    written, out = on_terminal("check", WRONG, "--case", "n33", "--json", stdout=subprocess.PIPE)
    assert "\033" not in out
    assert json.loads(out)["kernels"][0]["right"] is False
    assert "FAIL" not in written
    written, _ = on_terminal("check", WRONG, "--case", "n33", "--json")
    assert RED_FAIL not in written
    assert GREEN_PASS in piped("check", "naive", "--case", "n33", FORCE_COLOR="1").stdout


@pytest.mark.parametrize(
    ("variables", "is_terminal", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_the_environment_decides_about_colours(
    variables: dict[str, str], is_terminal: bool, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in COLOUR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    assert terminal.coloured(stream) is colour


@pytest.mark.parametrize(
    ("line", "painted"),
    [
        ("12:00:01 PASS mine.cpp: 2", "12:00:01 \033[1;32mPASS\033[0m mine.cpp: 2"),
        ("mine.cpp  FAIL   2/3", "mine.cpp  \033[1;31mFAIL\033[0m   2/3"),
        ("NOT IMPLEMENTED fourDimRead: no", "\033[1;31mNOT IMPLEMENTED\033[0m fourDimRead: no"),
        ("simd  tg32  1.1  SLOWER", "simd  tg32  1.1  \033[1;33mSLOWER\033[0m"),
        ("PASSED, and the folder FAIL is no verdict", None),
    ],
)
def test_what_counts_as_a_verdict(line: str, painted: str | None) -> None:
    assert terminal.painted(f"x\n{line}\ny") == f"x\n{painted or line}\ny"


def test_sentences_are_broken_between_words_and_nothing_else_is() -> None:
    kept = ["  Rerun: gpt149 check a.cpp --case n17", "    1 |  a table's row, or a picture"]
    text = "\n".join(["  Cause: it is a long sentence-like line", *kept, "short", ""])
    assert terminal.wrapped(text, 24).split("\n") == [
        "  Cause: it is a long",
        "    sentence-like line",
        *kept,
        "short",
        "",
    ]


def test_a_slow_case_is_shown_and_erased(tmp_path: Path) -> None:
    file = tmp_path / "sleepy.cpp"
    slept = tmp_path / "slept"
    file.write_text(f'#define SLEPT "{slept}"\n{SLEEPY}')
    asked = ("check", file, "--case", "n17", "--json")
    written, out = on_terminal(*asked, stdout=subprocess.PIPE)
    assert "case 1 of 1, n17 (1 s)" in written
    assert written.endswith(line.ERASE)
    json.loads(out)
    slept.unlink()
    done = piped(*asked)
    assert "case 1" not in done.stdout + done.stderr


def terminal_to_look_into(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """From now on stderr; no fixture, since pytest has a stderr of its own for each phase."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_what_is_over_within_a_second_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = terminal_to_look_into(monkeypatch)
    with line.status() as progress:
        progress("case 1 of 2")
    assert stderr.getvalue() == ""


def test_what_is_logged_takes_the_place_of_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = terminal_to_look_into(monkeypatch)
    monkeypatch.setattr(line, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(line, "TICK_SECONDS", 60.0)
    monkeypatch.setattr(line, "columns_of", lambda _stream: 12)
    handler = logging.StreamHandler(stderr)
    log = logging.getLogger()
    log.addHandler(handler)
    try:
        with line.status() as progress:
            progress("case 1 of 2")
            deadline = time.monotonic() + 30
            while "case" not in stderr.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
            log.warning("compiling")
        log.warning("done")
    finally:
        log.removeHandler(handler)
    e = line.ERASE
    assert stderr.getvalue() == f"{e}case 1 of 2{e}compiling\ndone\n"


def test_lab_tells_what_comes_next() -> None:
    steps: list[str] = []
    settings = Settings(n=17, threads=1, case="n17")
    judge_submission(MODULE, ["4Daccess", "part1"], settings, steps.append)
    assert steps == [
        "4Daccess",
        "part1: case 1 of 1, n17",
        "part1: timing",
    ]


def test_what_comes_next_is_quoted_for_the_shell(tmp_path: Path) -> None:
    file = tmp_path / "my kernel.cpp"
    assert f"gpt149 check '{file}' --watch" in piped("new", file).stderr
    written, out = on_terminal("check", file, stdout=subprocess.PIPE)
    assert out.startswith(f"PASS {file}")
    assert f"-a '{file}'" in written
    assert f"gpt149 bench '{file}'" in written
    assert piped("check", file, "--case", "n17").stderr == ""
    file.write_text(file.read_text().replace("s[j] / l", "s[j]"))
    wrong = piped("check", file, "--case", "n17").stdout
    assert f"Rerun: gpt149 check '{file}' --case n17" in wrong
