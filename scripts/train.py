"""Train a small GPT-2 on a text file and write it as a Hugging Face GPT-2 directory.

    python scripts/train.py --data tinyshakespeare.txt --out weights/shakespeare

Any text will do. Tiny Shakespeare is data/tinyshakespeare/input.txt of the repository
karpathy/char-rnn.

The first 90 % of the characters train, all but their last 1 %, which chooses the checkpoint; the
last 10 % are scored once, at the end. A byte-level BPE is learned on the first 90 % alone.
Everything that a resumed run needs is in RUN/state.pt; run the same command again after an
interruption.

Recipe: AdamW, cosine schedule, dropout (of attention's keys too), an exponential average of the
weights; BPE-dropout (Provilkov et al. 2020) if asked for. A step sees windows of one length: short
ones, and towards the end whole contexts too. These are spliced of a few pieces from anywhere, for
a text this small is soon known by heart where much of it is seen. At the end the logits are scaled
to what the held-out slice bears out.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
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

from gpt149.engine.evaluate import scored_logits, total_nats
from gpt149.model.config import GPTConfig
from gpt149.model.formats.gpt2 import save_gpt2
from gpt149.model.gpt import GPT

DEV_SHARE = 0.01  # of the training text, its end: chooses the checkpoint
CALIBRATIONS = [n / 20 for n in range(10, 25)]  # factors of the logits: 0.5, 0.55, ..., 1.2
SHORT = 8  # a short window is n_ctx / SHORT tokens
# Length of the windows, as n_ctx / n -> how often, from a share of the steps on. Short ones are
# cheap; what to make of a long context is learned later.
WINDOWS = {0.0: {SHORT: 1.0}, 0.6: {SHORT: 0.5, 1: 0.5}}
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
    weight_decay: float
    ema: float
    seed: int
    bf16: bool
    dev_share: float = DEV_SHARE
    windows: Mapping[float, Mapping[int, float]] = field(default_factory=lambda: WINDOWS)


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


def kept(shape: Sequence[int], dropout: float) -> Tensor:
    """Which elements dropout keeps: bool, `shape`.

    A draw of 64 bits serves eight; torch's own draw for each takes a tenth of a step on a CPU.
    """
    n = math.prod(shape)
    draws = torch.empty(-(-n // 8), dtype=torch.int64).random_(-(2**63), None)
    return (draws.view(torch.uint8)[:n] >= round(256 * dropout)).view(*shape)


class Dropout(torch.nn.Module):
    """nn.Dropout with the draws of `kept`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        return x * kept(x.shape, self.p).to(x.device, x.dtype).div_(1 - round(256 * self.p) / 256)


def sdpa(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, dropout: float = 0.0
) -> Tensor:
    """Attention; with dropout, each query does without some of the keys, the same in all heads.

    Source: Li et al., DropKey, 2023. Dropout of probabilities would leave torch's fused kernel.
    """
    if not dropout:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    mask = kept((q.shape[0], 1, q.shape[2], k.shape[2]), dropout).to(q.device).tril_()
    mask.diagonal(dim1=2, dim2=3).fill_(True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


class Batches:
    """Random windows of a text, which is segmented anew once it has been seen about once."""

    def __init__(self, bpe: Tokenizer, text: str, recipe: Recipe) -> None:
        self.bpe, self.text, self.recipe = bpe, text, recipe
        self.ids = torch.empty(0)
        self.left = 0

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (batch, n)."""
        recipe = self.recipe
        if self.left <= 0:
            self.ids = encode(self.bpe, self.text, recipe.bpe_dropout)
            self.left = len(self.ids)
        begun = max(share for share in recipe.windows if share <= step / recipe.steps)
        [part] = random.choices(*zip(*recipe.windows[begun].items(), strict=True))
        n = min(max(SHORTEST, recipe.n_ctx // part), recipe.n_ctx, len(self.ids) - 1)
        batch = max(1, recipe.tokens_per_step // n)
        rows = torch.stack([self.window(n, SHORT // part) for _ in range(batch)])
        self.left -= rows.numel()
        return self.ids[rows], self.ids[rows + 1]

    def window(self, n: int, most_pieces: int) -> Tensor:
        """Indices (n) of a window: up to `most_pieces` pieces, each from anywhere in the text."""
        cuts = sorted(random.choices(range(n), k=random.randrange(most_pieces)))
        window = torch.empty(n, dtype=torch.long)
        for first, end in itertools.pairwise([0, *cuts, n]):
            length = end - first
            start = random.randrange(len(self.ids) - length)
            window[first:end] = torch.arange(start, start + length)
        return window


class Tiled(torch.nn.Module):
    """A table of positions (n_ctx, n_embd): that of a short window again and again, and what each
    position behind it has of its own.

    All windows begin at position 0. So short ones learn for long ones before there are any.
    """

    def forward(self, tile: Tensor, own: Tensor) -> Tensor:
        again = tile.repeat(-(-len(own) // len(tile)), 1)[: len(own)]
        return torch.cat([tile, again + own])

    def right_inverse(self, table: Tensor) -> tuple[Tensor, Tensor]:
        tile = table[: -(-len(table) // SHORT)]
        return tile.clone(), torch.zeros_like(table[len(tile) :])


def optimizer(model: GPT, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)


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
@click.option("--steps", default=4600, show_default=True)
@click.option("--tokens-per-step", default=8192, show_default=True)
@click.option("--dropout", default=0.2, show_default=True)
@click.option("--bpe-dropout", default=0.0, show_default=True)
@click.option("--lr", default=1e-3, show_default=True)
@click.option("--weight-decay", default=0.1, show_default=True)
@click.option("--ema", default=0.995, show_default=True, help="Decay of the averaged weights.")
@click.option("--seed", default=149, show_default=True)
@click.option("--eval-every", default=200, show_default=True, help="Steps between looks at dev.")
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
    digest = hashlib.sha256(text.encode()).hexdigest()
    train_text, test_text = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]
    cut = int((1 - recipe.dev_share) * len(train_text))
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
    for parent in (model, *model.h):
        parent.drop = Dropout(recipe.dropout)
    model.init_weights()
    register_parametrization(model.wpe, "weight", Tiled())
    model.to(device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
    optim = optimizer(model, recipe)
    attention = partial(sdpa, dropout=recipe.dropout)
    n_params = sum(p.numel() for p in model.parameters())
    chars_a_token = len(train_text[cut:]) / len(dev_ids)
    console.print(f"{n_params / 1e6:.2f} M parameters, {chars_a_token:.2f} characters a token")

    step, best, seconds = 0, math.inf, 0.0
    state_file, best_file, log_file = run / "state.pt", run / "best.pt", run / "log.csv"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device)
        if (state["recipe"], state.get("text")) != (asdict(recipe), digest):
            raise click.UsageError(
                f"{run} holds a run of another recipe or text; give another --run."
            )
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optim.load_state_dict(state["optim"])
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
            for group in optim.param_groups:
                group["lr"] = recipe.lr * schedule(step, recipe.steps)
            inputs, targets = batches.draw(step)
            with torch.autocast(device, torch.bfloat16, enabled=recipe.bf16):
                logits = model(inputs.to(device), attention)
            loss = F.cross_entropy(logits.float().flatten(0, 1), targets.to(device).flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
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
                "text": digest,
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optim": optim.state_dict(),
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
