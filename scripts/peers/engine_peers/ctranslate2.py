"""CTranslate2, with a directory of its own: pip install ctranslate2 transformers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from . import Engine


class CTranslate2(Engine):
    name, batches = "CTranslate2", True
    needs = ("ctranslate2", "transformers")
    compute_type = "float32"

    @staticmethod
    def prepare(model: Path) -> None:
        from ctranslate2.converters import TransformersConverter

        if (model / "ctranslate2").exists():
            return
        source = model / "with words"  # the converter wants a vocabulary
        source.mkdir(exist_ok=True)
        for name in ("config.json", "model.safetensors"):
            (source / name).unlink(missing_ok=True)
            (source / name).symlink_to(model / name)
        write_words(source)
        TransformersConverter(str(source)).convert(str(model / "ctranslate2"))

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        import ctranslate2

        self.n_batch = n_batch
        self.generator = ctranslate2.Generator(
            str(model / "ctranslate2"),
            inter_threads=1,
            intra_threads=n_threads,
            compute_type=self.compute_type,
        )

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        start = time.perf_counter()
        steps = self.generator.generate_tokens(
            [[f"t{i}" for i in ids]] * self.n_batch, max_length=n, min_length=n, sampling_topk=1
        )
        firsts = [next(steps) for _ in range(self.n_batch)]  # of each sequence
        prefill = time.perf_counter()
        told = [*firsts, *steps]
        decode = time.perf_counter() - prefill
        return prefill - start, decode, [step.token_id for step in told if step.batch_id == 0]


class CTranslate2Int8(CTranslate2):
    name, precision = "CTranslate2, int8", "int8"
    compute_type = "int8"


def write_words(folder: Path) -> None:
    """A vocabulary of the made-up words t0, t1, ... for the model in the folder."""
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    words = {f"t{i}": i for i in range(vocab_size)}
    tokenizer: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "t0"}
    settings |= {"bos_token": "t0", "eos_token": "t0"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


PEERS = (CTranslate2, CTranslate2Int8)
