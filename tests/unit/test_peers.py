"""scripts/peers: a peer is found without its package, says what it needs, and takes its turns."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

import attention_peers
import engine_peers
import engines
import turns
from engine_peers import Stepper
from engine_tables import table
from gpt149.errors import InputError
from peer import Peer, choose

FOLDER = Path(engine_peers.__file__).parent
ENGINES = engine_peers.by_name()
ATTENTION = attention_peers.by_name()
ROOMS: dict[str, dict[str, type[Peer]]] = {
    "engine_peers": dict(ENGINES),
    "attention_peers": dict(ATTENTION),
}
OURS = {"attention_rows", "gpt149", "model_files", "numpy", "peer", "safetensors"}
ALWAYS_THERE = {"torch"}

# argv: the folder of scripts, packages that shall not be installed, then the command line.
WITHOUT = """
import sys
sys.path[0] = sys.argv.pop(1)
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split()))
from engines import main
main()
"""
# argv: the folder of scripts, a name, a file to write the name to at each run, the descriptor.
CHILD = """
import sys
_, sys.path[0], name, log, answers = sys.argv
from turns import serve_turns
runs = 0
def run(question):
    global runs
    runs += 1
    with open(log, "a") as f:
        f.write(name)
    return {"call": float(runs)}, {"asked": question["of"]}
serve_turns(int(answers), lambda: run if name != "X" else sys.exit("there is no X"))
"""


def packages(path: Path) -> set[str]:
    """What a file imports besides the standard library and what gpt149 needs itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found - OURS - ALWAYS_THERE - set(sys.stdlib_module_names)


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_a_peer_is_found(room: str) -> None:
    folder, listed = FOLDER.parent / room, set(import_module(room).MODULES)
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    found = {peer.__module__.split(".")[1] for peer in ROOMS[room].values()}
    unlisted = {"gpt149"} if room == "attention_peers" else set()  # kernels are named by -a
    assert modules - unlisted == listed == found


def test_a_precision_stands_together_and_gpt149_first() -> None:
    told = [engine.precision for engine in ENGINES.values()]
    assert told == sorted(told, key=engine_peers.PRECISIONS.index)
    for precision in ("float32", "bf16", "int8", "int4"):
        first = list(ENGINES)[told.index(precision)]
        assert first.startswith("gpt149")


@pytest.mark.parametrize(
    ("room", "module"),
    [(room, module) for room in ROOMS for module in import_module(room).MODULES],
)
def test_a_peer_says_what_it_needs(room: str, module: str) -> None:
    peers = [p for p in ROOMS[room].values() if p.__module__ == f"{room}.{module}"]
    assert packages(FOLDER.parent / room / f"{module}.py") <= {n for p in peers for n in p.needs}


def test_what_is_not_installed_is_skipped_by_name() -> None:
    gone = {need for engine in ENGINES.values() for need in engine.needs} - {"torch"}
    missing = {
        name: [need for need in engine.needs if need in gone]
        for name, engine in ENGINES.items()
        if gone.intersection(engine.needs)
    }
    assert {"transformers", "CTranslate2", "llama.cpp, q8_0", "OpenVINO, int8"} <= missing.keys()
    command = [sys.executable, "-c", WITHOUT, str(FOLDER.parent), " ".join(gone)]
    command += ["--model", "tiny", "-p", "3", "-n", "2", "--engines", ";".join(missing)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"skipped {name}: {', '.join(needs)} is not installed" for name, needs in missing.items()
    ]
    assert done.stdout.strip().endswith("|---|")


def test_an_unknown_engine_is_refused_with_the_known() -> None:
    with pytest.raises(click.UsageError, match=r"unknown engine 'vim'\. Known: gpt149; .*\.$"):
        choose(ENGINES, "gpt149; vim", "engine")


def test_a_peer_may_have_a_python_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Elsewhere(Peer):
        name, needs, python_in = "elsewhere", ("json", "not_there"), "ELSEWHERE_PYTHON"

    assert Elsewhere.python() == sys.executable
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("ELSEWHERE_PYTHON", str(other))
    assert Elsewhere.python() == str(other)
    assert choose({"elsewhere": Elsewhere}, None, "peer") == []
    said = "skipped elsewhere: not_there is not installed (see ELSEWHERE_PYTHON)\n"
    assert capsys.readouterr().err == said
    monkeypatch.setenv("ELSEWHERE_PYTHON", str(tmp_path / "none"))
    with pytest.raises(click.UsageError, match=r"ELSEWHERE_PYTHON is '.*none', which is no Python"):
        choose({"elsewhere": Elsewhere}, None, "peer")


def test_peers_take_turns_and_warm_ups_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(turns, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0)
    child, log = [sys.executable, "-c", CHILD, str(FOLDER.parent)], tmp_path / "log"
    commands = {name: [*child, name, str(log)] for name in "AXB"}
    found = turns.take_turns(commands, {"of": "the start"}, {"of": "a turn"}, 2)
    assert log.read_text() == "AABB" + "AB" + "AB" + "AB"  # two starts, a warm-up, two rounds
    assert list(found) == ["A", "X", "B"]
    assert found["X"] == "failed: there is no X"
    for name in "AB":
        measured = found[name]
        assert isinstance(measured, turns.Measured)
        assert measured.seconds == {"call": [3.0, 4.0]}  # the start's process runs on
        assert measured.said == {"asked": "a turn"}
        assert 0 < measured.start < 60
        assert measured.peak_rss > 1 << 20


def test_the_table_compares_first_tokens_and_tells_failures() -> None:
    seconds = {"prefill": [0.5, 1.0, 0.25], "decode": [1.0, 2.0, 1.0]}

    def measured(*tokens: int) -> turns.Measured:
        return turns.Measured(0.5, {"tokens": list(tokens)}, seconds, 2_000_000)

    found: dict[str, turns.Measured | str] = {
        "a": measured(1, 2),
        "b": measured(1, 3),
        "c": "failed: no",
        "(d)": measured(),
    }
    threads = {"a": 2, "b": 1, "c": 2, "(d)": 2}
    assert table(found, threads, 4, 11, 1).splitlines()[2:] == [
        "| a | 2 | 8 (4 to 16) | 10 (5 to 10) | 0.50 s | 2 MB | yes |",
        "| b | 1 | 8 (4 to 16) | 10 (5 to 10) | 0.50 s | 2 MB | NO |",
        "| c | 2 | failed: no | | | | |",
        "| (d) | 2 | | 10 (5 to 10) | | | |",
    ]
    line = table(found, threads, 4, 11, 16).splitlines()[2]
    assert line == "| a | 2 |  | 160 (80 to 160) | 0.50 s | 2 MB | yes |"  # of all 16


class Counting(Stepper):
    """The token behind t is t + 1."""

    name = "counting"

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        self.fed: list[list[int]] = []
        self.n_batch = n_batch

    def reset(self) -> None:
        self.fed.clear()

    def feed(self, ids: list[int]) -> object:
        import torch

        self.fed.append(ids)
        return torch.nn.functional.one_hot(torch.tensor(ids[-1] + 1), 10)

    def share(self) -> None:
        self.fed.append([])

    def feed_each(self, tokens: list[int]) -> object:
        import torch

        self.fed.append(tokens)
        return torch.nn.functional.one_hot(torch.tensor(tokens) + 1, 10)


def test_a_stepper_is_fed_the_prompt_and_then_each_token_but_the_last() -> None:
    engine = Counting(Path(), 1, 10, 1)
    for _ in range(2):
        prefill, decode, tokens = engine.run([7, 3], 3)
        assert (tokens, engine.fed) == ([4, 5, 6], [[7, 3], [4], [5]])
        assert min(prefill, decode) > 0


def test_sequences_share_the_prompt_and_are_fed_a_token_each() -> None:
    engine = Counting(Path(), 1, 10, 2)
    assert engine.run([7, 3], 3)[2] == [4, 5, 6]
    assert engine.fed == [[7, 3], [], [4, 4], [5, 5]]


def test_an_engine_gets_the_number_of_threads_that_is_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the sum of prefill and decode; what fails is not the fastest."""
    seconds = {4: (1.0, 9.0), 2: (2.0, 7.0), 1: None}
    asked = []

    def take_turns(commands: Any, first: Any, question: Any, rounds: int, starts: int) -> Any:
        asked.append((list(commands), first["n"], question["n"], rounds, starts))
        return {
            n: turns.Measured(0.0, {}, {"prefill": [took[0]], "decode": [took[1]]}, 0)
            if (took := seconds[n])
            else "failed"
            for n in commands
        }

    monkeypatch.setattr(engines, "take_turns", take_turns)
    contest = engines.Contest(Path("m"), [7, 3], 5, 16)
    assert contest.best_threads("gpt149", 4) == 2
    assert asked == [([4, 2, 1], 1, 5, 1, 1)]
    command = contest.command("gpt149", 2)
    assert command[command.index("--batch") + 1] == "16"
    assert command[command.index("--n-ctx") + 1] == "7"
    assert turns.counts(6) == [6, 3, 1]


@pytest.mark.parametrize("text", ["", "0", "4,x", "1,,2"])
def test_a_batch_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"--batch is '{text}', and must be numbers"):
        engines.whole_numbers(text)
