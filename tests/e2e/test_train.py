"""scripts/train.py: one command from a text to a model that generates, interrupted or not."""

from __future__ import annotations

import csv
import json
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gpt149.api import generate
from gpt149.model import checkpoint

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
WORDS = ("to", "be", "or", "not", "that", "is", "the", "question")
SMALL = (
    "--n-layer", "1", "--n-head", "2", "--n-embd", "32", "--n-ctx", "64", "--threads", "1",
    "--tokens-per-step", "512", "--lr", "0.01", "--ema", "0.9",
)  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = random.Random(149)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(rng.choice(WORDS) for _ in range(24000)))
    return path


def command(text: Path, at: Path, *options: str) -> list[str]:
    paths = ("--data", text, "--out", at / "model", "--run", at / "run")
    return [sys.executable, str(SCRIPT), *map(str, paths), *SMALL, *options]


def log(at: Path) -> list[dict[str, str]]:
    try:
        with (at / "run" / "log.csv").open(newline="") as f:
            return list(csv.DictReader(f))
    except FileNotFoundError:
        return []


def test_it_learns_and_what_it_writes_generates(text: Path, tmp_path: Path) -> None:
    # n_ctx 16: windows are as long from the first step as when scored.
    options = (
        "--steps", "100", "--eval-every", "2", "--vocab-size", "300", "--save-bf16",
        "--n-ctx", "16",
    )  # fmt: skip
    done = subprocess.run(command(text, tmp_path, *options), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(row["dev_nats_per_char"]) for row in log(tmp_path)]
    assert losses[0] > 2 * losses[-1]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test_nats_per_char"] < 1.2 * losses[-1]
    loaded = checkpoint.load(str(tmp_path / "model"))
    assert 256 < loaded.config.vocab_size <= 300
    n_params = sum(p.numel() for p in loaded.model.parameters())
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 2 * n_params + 4000
    written = "".join(p.text for p in generate(loaded, "to be", n=40, temperature=0)).split()
    assert len(written) > 5
    assert set(written[:-1]) <= set(WORDS)


def test_an_interrupted_run_goes_on_where_it_was(text: Path, tmp_path: Path) -> None:
    run = command(text, tmp_path, "--steps", "300", "--eval-every", "5")
    interrupted = subprocess.Popen(run, stderr=subprocess.DEVNULL)
    while len(log(tmp_path)) < 2:
        assert interrupted.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.02)
    interrupted.kill()
    interrupted.wait()
    assert not (tmp_path / "model" / "model.safetensors").exists()
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming at step " in done.stderr
    steps = [int(row["step"]) for row in log(tmp_path)]
    assert sorted(set(steps)) == list(range(5, 301, 5))
    assert len(steps) <= 61  # a row whose state was not yet written comes again
    assert checkpoint.load(str(tmp_path / "model")).config.n_layer == 1


def test_another_recipe_needs_another_run(text: Path, tmp_path: Path) -> None:
    first = command(text, tmp_path, "--steps", "1", "--eval-every", "1")
    assert subprocess.run(first, capture_output=True).returncode == 0
    other = subprocess.run([*first, "--dropout", "0.5"], capture_output=True, text=True)
    assert other.returncode == 2
    assert "another recipe" in other.stderr


@pytest.mark.parametrize(("part", "most_breaks"), [(8, 0), (2, 3), (1, 7)])
def test_windows_are_spliced_of_few_pieces(part: int, most_breaks: int) -> None:
    script = runpy.run_path(str(SCRIPT))
    recipe = script["Recipe"](
        vocab_size=256, n_layer=1, n_head=1, n_embd=8, n_ctx=128, steps=1, tokens_per_step=12800,
        dropout=0.0, bpe_dropout=0.0, lr=1e-3, weight_decay=0.0, ema=0.9, seed=1, bf16=False,
        windows={0.0: {part: 1.0}},
    )  # fmt: skip
    batches = script["Batches"](None, "", recipe)
    batches.ids, batches.left = torch.arange(10_000), 10**6
    random.seed(149)
    inputs, targets = batches.draw(0)
    assert inputs.shape == (100 * part, 128 // part)
    assert torch.equal(targets, inputs + 1)  # at the end of a piece too
    breaks = (inputs[:, 1:] != inputs[:, :-1] + 1).sum(1)
    assert breaks.max() == most_breaks
    assert breaks.min() == 0


def test_another_text_needs_another_run(text: Path, tmp_path: Path) -> None:
    run = command(text, tmp_path, "--steps", "1", "--eval-every", "1")
    assert subprocess.run(run, capture_output=True).returncode == 0
    other = tmp_path / "other.txt"
    other.write_text(text.read_text() + " to be")
    run = command(other, tmp_path, "--steps", "1", "--eval-every", "1")
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 2
    assert "another recipe or text" in done.stderr
