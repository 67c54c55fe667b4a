"""Train a small GPT-2 on a text file and write it as a Hugging Face GPT-2 directory.

    python scripts/train.py --data tinyshakespeare.txt --out weights/shakespeare

Any text will do. Tiny Shakespeare is data/tinyshakespeare/input.txt of the repository
karpathy/char-rnn.

The first 90 % of the characters train (their last 4 % choose the checkpoint), the last 10 % are
scored once, at the end. A byte-level BPE is learned on the first 90 % alone. Everything that a
resumed run needs is in RUN/state.pt; run the same command again after an interruption.

Recipe: Muon (Jordan et al. 2024) on the matrices and AdamW on the rest, cosine schedule, dropout,
an exponential average of the weights; BPE-dropout (Provilkov et al. 2020) if asked for. A step sees
windows of one length, from n_ctx/16 tokens to a whole context, at random positions; positions
are sinusoids of which only the amplitudes are learned, so that what is learned at one holds at all.
At the end the logits are scaled to what the held-out slice bears out.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as bpe_decoders
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gpt149.checkpoint import save_gpt2
from gpt149.config import GPTConfig
from gpt149.evaluate import scored_logits, total_nats
from gpt149.model import GPT

DEV_SHARE = 0.04  # of the training text: chooses the checkpoint
CALIBRATIONS = [n / 20 for n in range(10, 25)]  # factors of the logits: 0.5, 0.55, ..., 1.2
INIT_STD = 0.02  # of GPT-2's embeddings
# Length of the windows, as n_ctx / n -> how often, from a share of the steps on. Short ones are
# cheap; what to make of a long context is learned later.
WINDOWS = {
    0.0: {16: 0.4, 8: 0.4, 4: 0.1, 1: 0.1},
    0.5: {16: 0.2, 8: 0.35, 4: 0.2, 1: 0.25},
    0.7: {8: 0.5, 1: 0.5},
}
SHORTEST = 16  # tokens


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides the text."""

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    n_ctx: int
    steps: int
    tokens_per_step: int
    dropout: float
    bpe_dropout: float
    lr: float
    matrix_lr: float
    weight_decay: float
    ema: float
    seed: int
    bf16: bool


def learn_bpe(text: str, vocab_size: int) -> Tokenizer:
    """GPT-2's byte-level BPE (its 256 bytes, its splitting regex) with merges of our own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = bpe_decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([text], trainer)
    return bpe


def save_tokenizer(bpe: Tokenizer, out: Path, n_ctx: int) -> None:
    """vocab.json, merges.txt, tokenizer.json, and for transformers the class that adds no token."""
    bpe.model.save(str(out))
    bpe.save(str(out / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": n_ctx}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def encode(bpe: Tokenizer, text: str, dropout: float = 0.0) -> Tensor:
    """Token ids of the text; with dropout, a random segmentation of it."""
    bpe.model.dropout = dropout or None
    ids = torch.tensor(bpe.encode(text).ids)
    bpe.model.dropout = None
    return ids


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


class Batches:
    """Random windows of a text, which is segmented anew once it has been seen about once."""

    def __init__(self, bpe: Tokenizer, text: str, recipe: Recipe) -> None:
        self.bpe, self.text, self.recipe = bpe, text, recipe
        self.ids = torch.empty(0)
        self.left = 0

    def draw(self, step: int) -> tuple[Tensor, Tensor, int]:
        """Inputs and targets (batch, n), and the position of their first token."""
        recipe = self.recipe
        if self.left <= 0:
            self.ids = encode(self.bpe, self.text, recipe.bpe_dropout)
            self.left = len(self.ids)
        windows = WINDOWS[max(share for share in WINDOWS if share <= step / recipe.steps)]
        [part] = random.choices(list(windows), list(windows.values()))
        n = min(max(SHORTEST, recipe.n_ctx // part), recipe.n_ctx, len(self.ids) - 1)
        offset = random.randint(0, recipe.n_ctx - n)
        starts = torch.randint(len(self.ids) - n, (max(1, recipe.tokens_per_step // n),))
        rows = torch.stack([self.ids[s : s + n + 1] for s in starts])
        self.left -= rows.numel()
        return rows[:, :-1], rows[:, 1:], offset


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, for matrices (Jordan et al. 2024).

    Computes in `dtype`: torch.optim.Muon knows bfloat16 alone, which many CPUs only emulate. The
    step is scaled to the size of AdamW's (Liu et al. 2025), so that one learning rate suits both.
    """

    def __init__(
        self,
        matrices: list[torch.nn.Parameter],
        lr: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(momentum, group["momentum"])  # Nesterov's
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(p.shape) ** 0.5
                p.add_(orthogonal(ahead.to(self.dtype)), alpha=-group["lr"] * size)


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrix whose singular values are about 1, by a Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[0] > g.shape[1]
    x: Tensor = (g.T if tall else g) / (g.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Sinusoids(torch.nn.Module):
    """A table of positions (n_ctx, n_embd) from n_embd amplitudes.

    Waves from 2 pi to 2 n_ctx positions long (Vaswani et al. 2017). With windows at random
    positions, only differences of positions can tell anything (SHAPE, Kiyono et al. 2021); vectors
    learned one by one would each need to be seen often.
    """

    def __init__(self, n_ctx: int, n_embd: int) -> None:
        super().__init__()
        rates = torch.exp(torch.arange(0, n_embd, 2) * (-math.log(n_ctx / math.pi) / n_embd))
        angles = torch.arange(n_ctx)[:, None] * rates
        self.register_buffer("waves", torch.cat([angles.sin(), angles.cos()], 1)[:, :n_embd])

    def forward(self, amplitudes: Tensor) -> Tensor:
        return amplitudes * cast(Tensor, self.waves)

    def right_inverse(self, table: Tensor) -> Tensor:
        """The amplitudes to start from: those of a table of standard deviation INIT_STD."""
        return torch.full(table.shape[1:], INIT_STD * 2**0.5)


def optimizers(model: GPT, recipe: Recipe, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("h.")]
    tables = [p for n, p in model.named_parameters() if p.dim() == 2 and not n.startswith("h.")]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    muon = Muon(matrices, recipe.matrix_lr, recipe.weight_decay, dtype)
    groups = [
        {"params": tables, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99))
    return [muon, adamw]


def schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: 2 % warm-up, then a cosine down to a twentieth."""
    warmup = max(1, steps // 50)
    if step < warmup:
        return (step + 1) / warmup
    return 0.05 + 0.475 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def calibrate(model: GPT, ids: Tensor) -> float:
    """Scale the logits to where they predict the ids best, by way of ln_f; returns the factor.

    A model that knows its training text by heart is too sure of itself elsewhere.
    Source: Guo et al., On calibration of modern neural networks, 2017 (temperature scaling).
    """
    scored = [
        (logits.cpu(), ids[first:end]) for first, end, logits in scored_logits(model, ids, sdpa)
    ]
    logits, targets = (torch.cat(parts) for parts in zip(*scored, strict=True))
    best = min(CALIBRATIONS, key=lambda factor: F.cross_entropy(factor * logits, targets).item())
    model.ln_f.weight.data *= best
    model.ln_f.bias.data *= best
    return best


def save_atomically(state: object, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--run", type=click.Path(file_okay=False, path_type=Path), default="runs/train")
@click.option("--vocab-size", default=256, show_default=True)
@click.option("--n-layer", default=6, show_default=True)
@click.option("--n-head", default=6, show_default=True)
@click.option("--n-embd", default=384, show_default=True)
@click.option("--n-ctx", default=2048, show_default=True)
@click.option("--steps", default=1700, show_default=True)
@click.option("--tokens-per-step", default=8192, show_default=True)
@click.option("--dropout", default=0.2, show_default=True)
@click.option("--bpe-dropout", default=0.0, show_default=True)
@click.option("--lr", default=2e-3, show_default=True, help="AdamW's, for tables and vectors.")
@click.option("--matrix-lr", default=3e-3, show_default=True, help="Muon's.")
@click.option("--weight-decay", default=0.3, show_default=True)
@click.option("--ema", default=0.995, show_default=True, help="Decay of the averaged weights.")
@click.option("--seed", default=149, show_default=True)
@click.option("--eval-every", default=100, show_default=True, help="Steps between looks at dev.")
@click.option("--threads", type=int, default=os.cpu_count, help="Default: all.")
@click.option(
    "--bf16",
    is_flag=True,
    help="Matrix products in bfloat16: twice as fast where the CPU (avx512_bf16, amx) or GPU has "
    "them, a hundred times slower on a CPU that has not.",
)
@click.option("--save-bf16", is_flag=True, help="Write the weights in bfloat16, half the size.")
def main(
    data: Path,
    out: Path,
    run: Path,
    eval_every: int,
    threads: int,
    save_bf16: bool,
    **recipe_options: object,
) -> None:
    recipe = Recipe(**recipe_options)  # type: ignore[arg-type]
    if recipe.tokens_per_step < recipe.n_ctx:
        raise click.UsageError("--tokens-per-step must hold a window of --n-ctx tokens at least.")
    console = Console(stderr=True)
    torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    random.seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)

    text = data.read_text(encoding="utf-8")
    train_text, test_text = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]
    cut = int((1 - DEV_SHARE) * len(train_text))
    bpe = learn_bpe(train_text, recipe.vocab_size)
    dev_ids = encode(bpe, train_text[cut:])
    batches = Batches(bpe, train_text[:cut], recipe)

    config = GPTConfig(
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        n_embd=recipe.n_embd,
        n_ctx=recipe.n_ctx,
        vocab_size=bpe.get_vocab_size(),
        dropout=recipe.dropout,
    )
    model = GPT(config)
    model.init_weights()
    waves = Sinusoids(recipe.n_ctx, recipe.n_embd)
    register_parametrization(model.wpe, "weight", waves, unsafe=True)  # changes the shape
    model.to(device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
    optims = optimizers(model, recipe, torch.bfloat16 if recipe.bf16 else torch.float32)
    n_params = sum(p.numel() for p in model.parameters())
    chars_a_token = len(train_text[cut:]) / len(dev_ids)
    console.print(f"{n_params / 1e6:.2f} M parameters, {chars_a_token:.2f} characters a token")

    step, best, seconds = 0, math.inf, 0.0
    state_file, best_file, log_file = run / "state.pt", run / "best.pt", run / "log.csv"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device)
        if state["recipe"] != asdict(recipe):
            raise click.UsageError(f"{run} holds a run of another recipe; give another --run.")
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optim, saved in zip(optims, state["optims"], strict=True):
            optim.load_state_dict(saved)
        step, best, seconds = state["step"], state["best"], state["seconds"]
        torch.manual_seed(recipe.seed + step)
        random.seed(recipe.seed + step)
        console.print(f"resuming at step {step}")
    else:
        log_file.write_text("step,tokens,train_nats_per_char,dev_nats_per_char,seconds\n")

    columns = (
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("train", total=recipe.steps, completed=step, note="")
        recent: list[float] = []
        since = time.monotonic()
        while step < recipe.steps:
            for optim, peak in zip(optims, (recipe.matrix_lr, recipe.lr), strict=True):
                for group in optim.param_groups:
                    group["lr"] = peak * schedule(step, recipe.steps)
            inputs, targets, offset = batches.draw(step)
            with torch.autocast(device, torch.bfloat16, enabled=recipe.bf16):
                logits = model(inputs.to(device), sdpa, offset=offset)
            loss = F.cross_entropy(logits.float().flatten(0, 1), targets.to(device).flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optim in optims:
                optim.step()
                optim.zero_grad(set_to_none=True)
            average.update_parameters(model)
            step += 1
            recent.append(loss.item() / chars_a_token)
            rate = len(recent) * inputs.numel() / (time.monotonic() - since)
            progress.update(
                bar,
                completed=step,
                note=f"loss {sum(recent) / len(recent):.3f} nats/char, best dev {best:.4f}, "
                f"{rate:,.0f} tok/s",
            )
            if step % eval_every and step != recipe.steps:
                continue
            seconds += time.monotonic() - since
            average.module.eval()
            dev = total_nats(cast(GPT, average.module), dev_ids, sdpa) / len(train_text[cut:])
            with log_file.open("a", newline="") as f:
                train_loss = sum(recent) / len(recent)
                tokens = step * recipe.tokens_per_step
                csv.writer(f).writerow(
                    [step, tokens, f"{train_loss:.4f}", f"{dev:.4f}", f"{seconds:.0f}"]
                )
            if dev < best:
                best = dev
                save_atomically(average.module.state_dict(), best_file)
            state = {
                "recipe": asdict(recipe),
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optims": [optim.state_dict() for optim in optims],
                "step": step,
                "best": best,
                "seconds": seconds,
            }
            save_atomically(state, state_file)
            recent, since = [], time.monotonic()

    model.load_state_dict(torch.load(best_file, weights_only=True, map_location=device))
    model.eval()
    factor = calibrate(model, dev_ids)
    remove_parametrizations(model.wpe, "weight")
    if save_bf16:  # what is scored is what is saved
        for p in model.parameters():
            p.data = p.data.bfloat16().float()
    save_gpt2(model.cpu(), out, bf16=save_bf16)
    save_tokenizer(bpe, out, recipe.n_ctx)
    nats = total_nats(model, encode(bpe, test_text), sdpa) / len(test_text)
    result = {
        "dev_nats_per_char_before_calibration": round(best, 4),
        "dev_nats_per_char": round(total_nats(model, dev_ids, sdpa) / len(train_text[cut:]), 4),
        "calibration": factor,
        "test_nats_per_char": round(nats, 4),
        "steps": step,
        "seconds": round(seconds),
        "recipe": asdict(recipe),
    }
    (run / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"last 10 %: {nats:.4f} nats a character; the model is in {out}")


if __name__ == "__main__":
    main()
