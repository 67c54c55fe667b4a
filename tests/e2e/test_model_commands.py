"""eval, attn and diff: a kernel inside the real model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from gpt149.cli import main
from gpt149.engine.evaluate import total_nats
from gpt149.engine.probe import attention_matrix
from gpt149.kernels.dispatch import Attention
from gpt149.model.checkpoint import load

ZEROS = str(Path(__file__).parents[1] / "wrong_kernels" / "zeros.cpp")
TEXT = "Hello world, this is a text of several words. " * 6


@pytest.fixture
def model(tiny_model_dir: Path) -> str:
    return str(tiny_model_dir)


def gpt149(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels from files run here: these are known not to crash."""
    monkeypatch.setenv("GPT149_CHILD", "1")


def test_every_token_is_scored_once_with_half_a_context_before_it(tiny_model_dir: Path) -> None:
    """Against scoring each token by itself, with the window that the text says."""
    model = load(str(tiny_model_dir)).model
    n_ctx = model.config.n_ctx
    ids = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(0))
    attend = Attention("reference")
    want, ends = 0.0, [1]
    while ends[-1] < len(ids):
        start = max(0, ends[-1] - n_ctx // 2)
        ends.append(min(len(ids), start + n_ctx + 1))
        with torch.inference_mode():
            for t in range(ends[-2], ends[-1]):
                assert t - start >= min(t, n_ctx // 2)
                logp = model(ids[None, start:t], attend)[0, -1].log_softmax(-1)
                want -= float(logp[ids[t]])
    heard: list[int] = []
    got = total_nats(model, ids, attend, on_tokens=heard.append)
    assert sum(heard) == len(ids) - 1
    assert got == pytest.approx(want, rel=1e-4)


def test_eval_gives_the_same_through_every_kernel_and_not_through_a_wrong_one(
    model: str, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    nats = {}
    for kernel in ("reference", "flash", ZEROS):
        done = gpt149("eval", "-m", model, "-t", str(file), "-a", kernel, "--json")
        result = json.loads(done.stdout)
        nats[kernel] = result["nats_per_token"]
        assert result["characters"] == len(TEXT)
        assert result["perplexity"] == pytest.approx(math.exp(result["nats_per_token"]))
        scored = result["tokens"] - 1
        assert result["nats_per_character"] * len(TEXT) == pytest.approx(nats[kernel] * scored)
    assert nats["flash"] == pytest.approx(nats["reference"], rel=1e-4)
    assert abs(nats[ZEROS] - nats["reference"]) > 1e-3
    assert "nats a character" in gpt149("eval", "-m", model, "-t", str(file)).stdout


def test_eval_from_a_share_of_the_text(model: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    done = gpt149("eval", "-m", model, "-t", str(file), "--from", "0.9", "--json")
    assert json.loads(done.stdout)["characters"] == len(TEXT) - int(0.9 * len(TEXT))
    for arguments, words in (
        (("-t", str(file), "--from", "1"), "--from is 1"),
        (("-t", str(file), "--context", "1"), "--context is 1, and must be from 2 to "),
        (("-t", str(file), "--context", "9999"), "--context is 9999"),
        (("-t", str(tmp_path / "none")), "cannot read"),
    ):
        done = gpt149("eval", "-m", model, *arguments)
        assert (done.exit_code, words in done.stderr) == (2, True)


def test_eval_in_shorter_windows_is_that_of_both_engines(model: str, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    common = ("eval", "-m", model, "-t", str(file), "--json")
    loaded = load(model)
    assert loaded.tokenizer
    ids = loaded.tokenizer.encode(TEXT)
    want = total_nats(loaded.model, torch.tensor(ids), Attention("reference"), n_ctx=8)
    for engine in ("native", "torch"):
        result = json.loads(gpt149(*common, "--context", "8", "--engine", engine).stdout)
        assert (result["context"], result["engine"]) == (8, engine)
        assert result["nats_per_token"] * (len(ids) - 1) == pytest.approx(want, rel=5e-6)
    whole = json.loads(gpt149(*common).stdout)
    assert whole["context"] == loaded.model.config.n_ctx
    assert abs(whole["nats_per_token"] / result["nats_per_token"] - 1) > 5e-5


@pytest.mark.parametrize("kernel", ["flash", "torch"])
def test_the_attention_matrix_is_recovered(kernel: str) -> None:
    g = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 21, 8, generator=g)
    p = attention_matrix(Attention(kernel), q, k, causal=True, scale=0.5)
    hidden = torch.ones(21, 21).triu(1).bool()
    want = (0.5 * q[0, 0] @ k[0, 0].T).masked_fill(hidden, -torch.inf).softmax(-1)
    torch.testing.assert_close(p, want)


def test_attn_shows_tokens_and_weights(model: str) -> None:
    done = gpt149("attn", "-m", model, "-p", "Hello", "--layer", "1", "--head", "2")
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 5 + 1
    assert lines[1].endswith("H |@")  # the first query sees itself alone
    assert lines[-1].endswith("Hello")
    zeros = gpt149("attn", "-m", model, "-p", "Hello", "-a", ZEROS).stdout.splitlines()
    assert zeros[1].endswith("H | ")
    for arguments, words in (
        (("--layer", "2"), "--layer is 2, and this model has 2, from 0 to 1"),
        (("--head", "-1"), "--head is -1"),
    ):
        done = gpt149("attn", "-m", model, "-p", "Hello", *arguments)
        assert (done.exit_code, words in done.stderr) == (2, True)


def test_diff_finds_no_difference_between_right_kernels(model: str) -> None:
    done = gpt149("diff", "flash", "naive", "-m", model, "-p", "Hello", "-n", "20", "--json")
    result = json.loads(done.stdout)
    assert done.exit_code == 0
    assert result["first_differing_token"] is None
    assert abs(result["kl_nats"]) < 1e-6
    errors = torch.tensor(result["relative_error"])
    assert errors.shape == (2, 2, 4)  # layers, kernels, heads
    assert errors.max() < 1e-5


def test_diff_shows_where_a_wrong_kernel_departs(model: str) -> None:
    done = gpt149("diff", "flash", ZEROS, "-m", model, "-p", "Hello", "-n", "20")
    assert done.exit_code == 1
    assert "Greedy text departs at token" in done.stdout
    assert "1.0e+00" in done.stdout
    too_long = gpt149("diff", "flash", "naive", "-m", model, "-p", "Hello", "-n", "60")
    assert too_long.exit_code == 2
    assert "must have 1 to 4: with 60" in too_long.stderr


def test_attn_draws_a_png(model: str, tmp_path: Path) -> None:
    png = tmp_path / "matrix.png"
    done = gpt149("attn", "-m", model, "-p", "Hello", "--png", str(png))
    assert (done.exit_code, done.stdout) == (0, "")
    assert png.read_bytes().startswith(b"\x89PNG")
    nowhere = gpt149("attn", "-m", model, "-p", "Hello", "--png", str(tmp_path / "no" / "x.png"))
    assert nowhere.exit_code == 2
    assert "cannot write" in nowhere.stderr


@pytest.fixture
def nan_in_head_1(tmp_path: Path) -> str:
    file = tmp_path / "nan.cpp"
    text = Path(ZEROS).read_text()
    assert ", 0.0f);" in text
    file.write_text(text.replace(", 0.0f);", ', h == 1 ? __builtin_nanf("") : 0.0f);'))
    return str(file)


def test_eval_of_nan_is_an_error(model: str, tmp_path: Path, nan_in_head_1: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    done = gpt149("eval", "-m", model, "-t", str(text), "-a", nan_in_head_1, "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "nan nats" in done.stderr
    assert f"gpt149 check {nan_in_head_1}" in done.stderr


def test_diff_shows_nan_as_the_worst(model: str, nan_in_head_1: str) -> None:
    done = gpt149("diff", "simd", nan_in_head_1, "-p", "Hello", "-m", model, "-n", "2")
    layers = [line for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert len(layers) == 2
    assert all(line.split()[2] == "nan" and line.endswith(", 1") for line in layers)
