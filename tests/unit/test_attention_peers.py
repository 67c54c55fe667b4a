"""scripts/peers/attention.py: a row is what its name says, peers are judged, the best is found."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import attention
import attention_peers
from attention_peers import (
    AttentionPeer,
    CannotRun,
    Inputs,
    drawn,
    folded,
    head_major,
    is_causal,
    mask_of,
    token_major,
)
from attention_peers.ceiling import Ceiling
from attention_rows import COLD_BYTES, ROWS, chosen, parse
from attention_tables import Entry, lines, times
from gpt149.check.cases import Case
from gpt149.check.judge import expect
from gpt149.errors import InputError
from turns import Measured

SCRIPT = Path(attention.__file__)


class Exact(AttentionPeer):
    """float64's own answer, plus `off` in the last query of the last head."""

    name, off = "exact", 0.0

    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        if case.n_head != case.n_kv_head:
            raise CannotRun("no grouped heads")
        self.outs = [expect(case, *tensors).want[0].astype(np.float32) for tensors in sets]
        for out in self.outs:
            out[-1, -1, 0] += self.off

    def call(self, i: int) -> Any:
        return self.outs[i]

    def result(self, out: Any) -> Any:
        return out


class Off(Exact):
    name, off = "off", 1e-3


def test_a_row_is_what_its_name_says() -> None:
    row = parse("32/8,2x4096,128:cold")
    assert (row.case.n_head, row.case.n_kv_head, row.case.n_q, row.case.n_kv) == (32, 8, 2, 4096)
    assert (row.case.head_dim, row.case.causal, row.cold) == (128, True, True)
    assert row.kv_bytes == 2 * 4 * 8 * 4096 * 128
    assert row.n_bytes == row.kv_bytes + 2 * 4 * 32 * 2 * 128
    assert (row.n_sets - 1) * row.kv_bytes <= COLD_BYTES < row.n_sets * row.kv_bytes
    square = parse("3,5,8:full")
    assert (square.case.n_q, square.case.n_kv_head, square.n_sets) == (5, 3, 1)
    assert not square.case.causal


@pytest.mark.parametrize("text", ["12,64", "12/5,1,64", "12,5x4,64", "0,1,64", "12,1,64:warm"])
def test_a_row_that_is_no_call_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"the row '{text}' (must be one of|is no call)"):
        parse(text)


def test_groups_and_rows_are_chosen_by_name() -> None:
    assert [row.name for row in chosen(["full", "1,2,8"])] == [*ROWS["full"], "1,2,8"]
    assert [row.name for row in chosen([])] == [name for group in ROWS.values() for name in group]


def test_layouts_hold_the_same_numbers() -> None:
    [(q, k, _)] = drawn(parse("4/2,1x3,8"))
    assert q.ctypes.data % attention_peers.LINE == k.ctypes.data % attention_peers.LINE == 0
    assert np.array_equal(head_major(token_major(k), 2), k[0])
    case = parse("4/2,1x3,8").case
    assert np.array_equal(folded(case, q)[0, 1, 0], q[0, 2, 0])  # head 2 asks keys of head 1


def test_masks_are_aligned_to_the_bottom_right() -> None:
    hidden = mask_of(parse("1,2x3,8").case)
    assert hidden is not None
    assert hidden.tolist() == [[0, 0, -math.inf], [0, 0, 0]]
    for name in ("1,3,8", "1,1x3,8", "1,2x3,8:full"):
        assert mask_of(parse(name).case) is None
    assert [is_causal(parse(name).case) for name in ("1,3,8", "1,3,8:full", "1,1,8")] == [
        True,
        False,
        False,
    ]


def test_outputs_are_judged_before_they_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    for peer in (Exact, Off):
        monkeypatch.setitem(attention.PEERS, peer.name, peer)
    question = {"row": "2,3x5,8", "threads": 1}
    seconds, said = attention.load("exact")(question)
    assert said == {"computes": True}
    assert 0 < seconds["call"] < 0.1
    said = attention.load("off")(question)[1]
    assert not said["computes"]
    assert said["why"].startswith("wrong: head 1: error 0.001")
    said = attention.load("exact")(question | {"row": "2/1,3x5,8"})[1]
    assert said == {"computes": False, "why": "no grouped heads"}


def test_kernels_race_who_can_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two and one thread the faster is taken, and who is far behind plays no rounds."""
    speed = {"simd": 9.0, "quick": 2.0, "near": 3.9, "slow": 4.1, Ceiling.name: 1.0}

    def play(players: Any, questions: Any, rounds: int, **pace: float) -> Any:
        found: dict[str | int, Measured | str] = {}
        for name, question in questions.items():
            who = players[name].name
            if who == "lost":
                found[name] = "failed: no"
                continue
            slower = 1.2 if (who == "near") == (question["threads"] == 2) else 1
            said = {"computes": who != "off", "why": "wrong"}
            seconds = {"call": [slower * speed.get(who, 0.0)] * rounds}
            found[name] = Measured(0.0, said, seconds, 0)
        return found

    monkeypatch.setattr(attention, "play", play)
    players: Any = {name: SimpleNamespace(name=name) for name in (*speed, "off", "lost")}
    entries = attention.race(parse("1,2,8"), players, ["simd"], 2, 3)
    assert entries == {
        "simd": Entry(2, 9.0, samples=[9.0] * 3),
        "quick": Entry(2, 2.0, samples=[2.0] * 3),
        "near": Entry(1, 3.9, samples=[3.9] * 3),
        "slow": Entry(2, 4.1),
        Ceiling.name: Entry(2, 1.0, samples=[1.0] * 3),
        "off": Entry(2, math.inf, "wrong"),
        "lost": Entry(2, math.inf, "failed: no"),
    }


def test_the_table_has_the_best_peer_and_ratios_by_round() -> None:
    entries = {
        "simd": Entry(2, 1.0, samples=[2e-3, 4e-3, 3e-3]),
        "mine.cpp": Entry(2, why="wrong: head 0"),
        "a": Entry(2, 1.0, samples=[4e-3, 4e-3, 4e-3]),
        "b": Entry(1, 1.0, samples=[5e-3, 5e-3, 5e-3]),
        "c": Entry(1, 7e-6),
        "(the machine)": Entry(2, 1.0, samples=[1e-3, 1e-3, 1.5e-3]),
    }
    assert lines("1,2,8", entries, ["simd", "mine.cpp"], "(the machine)") == [
        "| 1,2,8 | simd | 3.00 ms | a | 4.00 ms | 0.75 (0.50 to 1.00) | 50% |",
        "| 1,2,8 | mine.cpp | wrong: head 0 | a | 4.00 ms |  |  |",
    ]
    assert times({"1,2,8": entries}).splitlines()[2] == (
        "| 1,2,8 | 3.00 ms (2) | wrong: head 0 | 4.00 ms (2) | 5.00 ms (1) | about 7.0 us (1) "
        "| 1.00 ms (2) |"
    )


def test_the_command_puts_a_kernel_beside_torch() -> None:
    command = [sys.executable, str(SCRIPT), "-a", "naive", "-s", "2,3x5,8", "--threads", "1"]
    command += ["--rounds", "1", "--peers", "torch SDPA; (the machine)"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[2].split(" | ")
    assert first[:2] == ["| 2,3x5,8", "naive"]
    assert first[3] == "torch SDPA"
    assert float(first[5].split()[0]) > 0
    assert "wrong" not in done.stdout


def test_the_command_refuses_what_is_no_row_or_kernel() -> None:
    for wrong, said in ((["-s", "1,2"], "the row '1,2' must be"), (["-a", "smid"], "unknown")):
        done = subprocess.run([sys.executable, str(SCRIPT), *wrong], capture_output=True, text=True)
        assert done.returncode == 2
        assert said in done.stderr
