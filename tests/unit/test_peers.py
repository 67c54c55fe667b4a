"""scripts/peers: a peer is found without its package, says what it needs, and takes its turns."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

import engine_peers
import turns
from engine_peers import Stepper
from engine_tables import table
from peer import choose

FOLDER = Path(engine_peers.__file__).parent
ENGINES = engine_peers.by_name()
OURS = {"gpt149", "model_files", "numpy", "peer", "safetensors", "torch"}  # always there

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
    return found - OURS - set(sys.stdlib_module_names)


def test_every_module_of_a_peer_is_found() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert modules == set(engine_peers.MODULES)
    assert {engine.__module__.split(".")[1] for engine in ENGINES.values()} == modules


def test_a_precision_stands_together_and_gpt149_first() -> None:
    told = [engine.precision for engine in ENGINES.values()]
    assert told == sorted(told, key=engine_peers.PRECISIONS.index)
    for precision in ("float32", "bf16", "int8"):
        first = list(ENGINES)[told.index(precision)]
        assert first.startswith("gpt149")


@pytest.mark.parametrize("module", engine_peers.MODULES)
def test_a_peer_says_what_it_needs(module: str) -> None:
    needs = {
        need
        for engine in ENGINES.values()
        if engine.__module__ == f"engine_peers.{module}"
        for need in engine.needs
    }
    assert packages(FOLDER / f"{module}.py") <= needs


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
    assert table(found, 4, 11).splitlines()[2:] == [
        "| a | 8 (4 to 16) | 10 (5 to 10) | 0.50 s | 2 MB | yes |",
        "| b | 8 (4 to 16) | 10 (5 to 10) | 0.50 s | 2 MB | NO |",
        "| c | failed: no | | | | |",
        "| (d) | | 10 (5 to 10) | | | |",
    ]


class Counting(Stepper):
    """The token behind t is t + 1."""

    name = "counting"

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        self.fed: list[list[int]] = []

    def reset(self) -> None:
        self.fed.clear()

    def feed(self, ids: list[int]) -> object:
        import torch

        self.fed.append(ids)
        return torch.nn.functional.one_hot(torch.tensor(ids[-1] + 1), 10)


def test_a_stepper_is_fed_the_prompt_and_then_each_token_but_the_last() -> None:
    engine = Counting(Path(), 1, 10)
    for _ in range(2):
        prefill, decode, tokens = engine.run([7, 3], 3)
        assert (tokens, engine.fed) == ([4, 5, 6], [[7, 3], [4], [5]])
        assert min(prefill, decode) > 0
