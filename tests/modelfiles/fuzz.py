"""Directories of models, damaged and loaded, case after case, until the time is over.

A child of `test_fuzz_models.py`: a line before each case says which it is, so that a case that
crashes the process or never ends is known. `python -m modelfiles.fuzz SEED SECONDS CASES [FIRST]`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers

import gpt149
from gpt149.errors import Gpt149Error, NotFinite
from gpt149.model.checkpoint import Checkpoint, load
from gpt149.model.formats.gpt2 import save_gpt2

from .bpe import BYTES, Merges, write_bpe
from .corpus import CORPUS
from .mutate import damage
from .nanogpt import CHARACTERS, nanogpt_tensors, save_meta, save_nanogpt
from .tiny import IDS, random_model

MEMORY = 12 << 30  # bytes that a case may reserve; torch alone reserves several
END = "<|endoftext|>"
MERGES: Merges = [("a", "b"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
VOCAB = {**BYTES, **{a + b: 256 + i for i, (a, b) in enumerate(MERGES)}, END: 260}
TEXT = "ab the theory: café <user>ab  <end> \n\nx"
REPORT = os.fdopen(os.dup(sys.stdout.fileno()), "w")
CONFIG = {"vocab_size": 264}


def specimens(root: Path) -> list[Path]:
    """A directory of each form."""
    model = random_model(**CONFIG)
    made = {name: root / name for name in ("plain", "json", "sharded", "pickled", "parts")}
    for path in made.values():
        save_gpt2(model, path)
        write_bpe(path, VOCAB, MERGES)
        write(path / "added_tokens.json", {"<user>": 261, "<end>": 262})
        write(path / "special_tokens_map.json", {"eos_token": "<end>", "bos_token": END})
        write(path / "generation_config.json", {"eos_token_id": [262, 260]})
    tokenizer = transformers.GPT2Tokenizer.from_pretrained(made["plain"])
    for name in ("added_tokens", "special_tokens_map", "vocab"):
        (made["json"] / f"{name}.json").unlink()
    (made["json"] / "merges.txt").unlink()
    tokenizer.save_pretrained(made["json"])
    for name, index in (("sharded", "model.safetensors"), ("parts", "pytorch_model.bin")):
        split(made[name], index)
    file = made["pickled"] / "model.safetensors"
    torch.save(safetensors.torch.load_file(file), made["pickled"] / "pytorch_model.bin")
    file.unlink()
    nanogpt = root / "nanogpt"
    nanogpt.mkdir()
    save_nanogpt(nanogpt, nanogpt_tensors(bias=True))
    save_meta(nanogpt / "meta.pkl", CHARACTERS)
    return [*made.values(), nanogpt]


def split(path: Path, index: str) -> None:
    """The weights in two files and an index."""
    file = path / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    file.unlink()
    stem, suffix = index.rsplit(".", 1)
    places = {n: f"{stem}-{i % 2 + 1:05}-of-00002.{suffix}" for i, n in enumerate(tensors)}
    for shard in sorted(set(places.values())):
        part = {n: t for n, t in tensors.items() if places[n] == shard}
        if suffix == "bin":
            torch.save(part, path / shard)
        else:
            safetensors.torch.save_file(part, path / shard, {"format": "pt"})
    write(path / f"{index}.index.json", {"metadata": {}, "weight_map": places})


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))


def outcome(path: Path) -> str:
    """Refused in a sentence, or read as transformers reads it; raises where it is neither."""
    ids, text_of = None, "no text"
    try:
        loaded = load(path)
        run(loaded)
    except NotFinite:
        return "read, and not finite"
    except Gpt149Error as e:
        check_sentence(e)
        return "refused"
    try:
        text = TEXT if (path / "config.json").exists() else "A FEW: (1 + 2)"
        ids = loaded.need_tokenizer().encode(text, special=True)
        assert loaded.need_tokenizer().decode(ids) == text, "the text does not come back"
        text_of = "text"
    except Gpt149Error as e:
        check_sentence(e)
    if (path / "config.json").is_file():
        text_of += compare(path, loaded, ids)
    return f"read, {text_of}"


def check_sentence(e: Gpt149Error) -> None:
    lines = str(e).split("\n")
    assert e.exit_status == 2, f"exit status {e.exit_status}: {e}"
    assert len(lines) == 1 or lines[1].startswith("$ "), f"several lines: {e}"
    assert 10 < len(lines[0]) < 1000, f"no sentence: {e}"


def run(loaded: Checkpoint) -> None:
    for _ in gpt149.generate(loaded, [1, 2], kernel="reference", engine="torch", n=2, n_threads=1):
        pass


def compare(path: Path, loaded: Checkpoint, ids: list[int] | None) -> str:
    """The logits and the ids of transformers, if that reads the directory at all."""
    from gpt149.kernels.dispatch import Attention

    try:
        model: Any = transformers.GPT2LMHeadModel.from_pretrained(
            path, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
        )
    except Exception:
        return ", which transformers does not"
    some = IDS[:, : min(8, loaded.config.n_ctx)] % loaded.config.vocab_size
    with torch.inference_mode():
        theirs = model.eval()(some).logits
        ours = loaded.model(some, Attention("reference", n_threads=1))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, equal_nan=True)
    if ids is None:
        return ""
    try:
        tokenizer = transformers.GPT2Tokenizer.from_pretrained(path, local_files_only=True)
        theirs = tokenizer(TEXT)["input_ids"]
    except Exception:
        return ", whose tokenizer transformers does not"
    assert theirs == ids, "other ids than transformers'"
    return ""


def one(root: Path, forms: list[Path], seed: str, at: int) -> tuple[str, str]:
    """What was damaged, and what came of it."""
    rng = random.Random(f"{seed}:{at}")
    path = root / "case"
    form = rng.choice(forms)
    shutil.copytree(form, path)
    try:
        if at < len(CORPUS):
            name, file, change = CORPUS[at]
            shutil.rmtree(path)
            shutil.copytree(root / name, path)
            change(path / file)
            done = f"{name}, {file}"
        else:
            damages = [damage(path, rng, forms) for _ in range(rng.choice([1, 1, 2, 3]))]
            done = f"{form.name}, {', '.join(damages)}"
        say(case=at, done=done)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return done, outcome(path)
    finally:
        shutil.rmtree(path)


def say(**what: object) -> None:
    REPORT.write(json.dumps(what) + "\n")
    REPORT.flush()


def main(seed: str, seconds: float, cases: int, first: int = 0) -> None:
    """Print a line before each case, one about each that failed, and the counts at the end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # tokenizers prints there
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        forms = specimens(Path(folder))
        end = time.monotonic() + seconds
        for at in range(first, first + cases):
            if time.monotonic() > end and at >= len(CORPUS):
                break
            try:
                _, came = one(Path(folder), forms, seed, at)
            except Exception as e:
                came = "FAILED"
                say(failed=at, why="".join(traceback.format_exception(e, limit=-4))[:1800])
            counts[came] = counts.get(came, 0) + 1
    say(counts=counts)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))
