"""gpt149 itself: its engines and precisions, and decoding without a KV cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from . import Engine


class Gpt149(Engine):
    name, batches = "gpt149", True
    how: ClassVar[dict[str, Any]] = {}

    @classmethod
    def missing(cls) -> list[str]:
        from gpt149.engine.choices import DTYPES

        dtype = cls.how.get("dtype", "float32")
        return super().missing() + ([] if dtype in DTYPES else [f"--dtype {dtype}"])

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        from gpt149.engine.start import start
        from gpt149.model.checkpoint import load

        kernel = self.how.get("kernel", "simd")
        how = {k: v for k, v in self.how.items() if k != "kernel"}
        self.n_batch = n_batch
        self.engine = start(load(str(model)), kernel, n_threads=n_threads, **how)

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        from gpt149.engine.generation import Generation
        from gpt149.engine.sampling import Sampling
        from gpt149.engine.texts import Options

        self.engine.clear()
        options = Options(n, num_samples=self.n_batch, ignore_eos=True)
        generation = Generation(self.engine, ids, sampling=Sampling(temperature=0), options=options)
        for _ in generation:
            pass
        stats = generation.stats
        return stats.ttft_s or 0.0, stats.decode_s, generation.samples[0].token_ids


class Gpt149Torch(Gpt149):
    name = "gpt149, torch engine"
    needs = ("torch",)
    how: ClassVar = {"engine": "torch"}


class NanoGpt(Gpt149):
    """What nanoGPT and cs149gpt do: all tokens again at every step."""

    batches = False
    name = "nanoGPT-style, no cache"
    needs = ("torch",)
    how: ClassVar = {"kernel": "torch", "kv_cache": False}


class Gpt149Bf16(Gpt149):
    name, precision = "gpt149, bf16", "bf16"
    how: ClassVar = {"dtype": "bf16"}


class Gpt149Int8(Gpt149):
    name, precision = "gpt149, int8", "int8"
    how: ClassVar = {"dtype": "int8"}


class Gpt149Int4(Gpt149):
    name, precision = "gpt149, int4", "int4"
    how: ClassVar = {"dtype": "int4"}


PEERS = (Gpt149, Gpt149Torch, NanoGpt, Gpt149Bf16, Gpt149Int8, Gpt149Int4)
