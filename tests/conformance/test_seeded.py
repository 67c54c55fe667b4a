"""`--seed`: cases of the same kinds, which nobody has seen, and which come again."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from cs149.mistakes import WRONG_MODULES, wrong_module

from gpt149.check.cases import SEED, Case, quick
from gpt149.check.run import check
from gpt149.check.seeded import seeded
from gpt149.cli import main
from gpt149.lab.parts import PARTS, cases
from gpt149.lab.run import Settings, judge_submission

WRONG = Path(__file__).parents[1] / "wrong_kernels"


def kind(case: Case) -> list[object]:
    """What no seed may change."""
    n_q, n_kv = case.n_q, case.n_kv
    said: list[object] = [n_q < n_kv, n_q > n_kv, case.head_dim % 2, case.head_dim == 1]
    for n in (n_q, n_kv):
        said += [n == 1, n % 2, n % 16 == 0, n % 16 == 1, n % 16 == 15]
        said += [(n % tile == 0, n < tile) for tile in (case.br, case.bc) if tile]
    return [*said, n_kv > case.window, case.head_dim == case.head_dim_v]


def test_a_seed_keeps_the_kinds_and_changes_sizes_and_numbers() -> None:
    asked = [*quick(), *cases(PARTS[3], 1024, 256, 128, 8)]
    assert seeded(asked, SEED) == asked
    drawn = seeded(asked, 5)
    assert drawn == seeded(asked, 5)
    for old, new in zip(asked, drawn, strict=True):
        assert kind(old) == kind(new), (old, new)
        assert new.n_q >= old.n_q
        assert new.n_kv >= old.n_kv
        assert replace(new, n_q=0, n_kv=0, head_dim=0, seed=0) == replace(
            old, n_q=0, n_kv=0, head_dim=0, seed=0
        )
        assert new.work <= 4 * old.work or new.work < 30_000_000
    changed = [(old.n_kv, new.n_kv) for old, new in zip(asked, drawn, strict=True) if old.n_kv > 1]
    assert sum(old != new for old, new in changed) > 0.8 * len(changed)
    assert {case.n_kv for case in drawn} - {case.n_kv for case in seeded(asked, 6)}


def test_the_length_that_is_asked_for_stays() -> None:
    assert 1000 in {case.n_q for case in cases(PARTS[0], 1000, 0, 0, 2, seed=5)}
    assert {case.seed for case in cases(PARTS[3], 1000, 16, 16, 2, seed=5)} == {5}


def test_the_rerun_line_draws_the_same_case() -> None:
    command = ["check", str(WRONG / "k_indices_exchanged.cpp"), "--case", "n33", "--seed", "7"]
    first = CliRunner().invoke(main, command).stdout
    (line,) = re.findall(r"Rerun: gpt149 (.*)", first)
    again = CliRunner().invoke(main, shlex.split(line)).stdout
    assert "Cause: k_address" in first
    assert "n_q=33 " not in first
    assert again == first


def test_a_right_kernel_stays_right_and_a_wrong_module_keeps_its_cause(tmp_path: Path) -> None:
    asked = cases(PARTS[3], 64, 16, 48, 2, seed=11)[:8]
    assert check("flash", asked, timeout=20.0).right
    file = tmp_path / "module.cpp"
    file.write_text(wrong_module(WRONG_MODULES[0]))
    settings = Settings(n=64, threads=2, seed=11)
    (result,) = judge_submission(file, ["part1"], settings).results
    assert result.cause == "k_flat_reshape"
    assert "part1 -N 64 --threads 2 --seed 11 --case " in result.report


@pytest.mark.parametrize("command", ["check", "lab"])
def test_a_seed_below_0_is_refused(command: str) -> None:
    done = CliRunner().invoke(main, [command, "naive", "--seed", "-1"])
    assert (done.exit_code, done.stdout) == (2, "")
