"""llama.cpp by its Python bindings, with GGUF files: pip install llama-cpp-python gguf."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any, ClassVar

from . import Stepper

CACHE_STEP = 256  # a sequence's cache is rounded up to as many tokens


class LlamaCpp(Stepper):
    name, batches = "llama.cpp", True
    needs = ("llama_cpp", "gguf")
    flash = False
    file = "model.gguf"

    @staticmethod
    def prepare(model: Path) -> None:
        if not (model / "model.gguf").exists():
            write_gguf(model)

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        import llama_cpp

        self.api, self.n_batch = llama_cpp, n_batch
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(model / self.file).encode(), llama_cpp.llama_model_default_params()
        )
        room = -(-n_ctx // CACHE_STEP) * CACHE_STEP  # of a sequence
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max = n_batch * room, n_batch
        params.n_batch = params.n_ubatch = max(n_ctx, n_batch)
        params.n_threads = params.n_threads_batch = n_threads
        params.flash_attn_type = int(self.flash)
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context of {n_batch} x {room} tokens")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)

    def reset(self) -> None:
        self.api.llama_memory_clear(self.memory, True)
        self.held = 0

    def feed(self, ids: list[int]) -> Any:
        places = [(self.held + i, 0, i == len(ids) - 1) for i in range(len(ids))]
        self.held += len(ids)
        return self.decode(ids, places, 1)[0]

    def share(self) -> None:
        for sequence in range(1, self.n_batch):
            self.api.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)

    def feed_each(self, tokens: list[int]) -> Any:
        places = [(self.held, sequence, True) for sequence in range(self.n_batch)]
        self.held += 1
        return self.decode(tokens, places, self.n_batch)

    def decode(self, ids: list[int], places: list[tuple[int, int, bool]], n_logits: int) -> Any:
        """A step of tokens at (position, sequence, whether logits are wanted)."""
        import numpy as np

        batch = self.batch
        batch.n_tokens = len(ids)
        for i, (token, (position, sequence, wanted)) in enumerate(zip(ids, places, strict=True)):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if status := self.api.llama_decode(self.context, batch):
            raise RuntimeError(f"llama_decode says {status}")
        logits = self.api.llama_get_logits(self.context)
        return np.ctypeslib.as_array(logits, (n_logits, self.n_vocab))


class LlamaCppFlash(LlamaCpp):
    name = "llama.cpp, flash attention"
    flash = True


class LlamaCppSmall(LlamaCpp):
    """From a file that llama.cpp makes of the one in float32. ftype: which type it is to have."""

    ftype: ClassVar[str]

    @classmethod
    def prepare(cls, model: Path) -> None:
        write_small_gguf(model, cls.file, cls.ftype)


class LlamaCppBf16(LlamaCppSmall):
    name, precision = "llama.cpp, bf16", "bf16"
    file, ftype = "model-bf16.gguf", "LLAMA_FTYPE_MOSTLY_BF16"


class LlamaCppInt8(LlamaCppSmall):
    name, precision = "llama.cpp, q8_0", "int8"
    file, ftype = "model-q8_0.gguf", "LLAMA_FTYPE_MOSTLY_Q8_0"


class LlamaCppInt4(LlamaCppSmall):
    name, precision = "llama.cpp, q4_0", "int4"
    file, ftype = "model-q4_0.gguf", "LLAMA_FTYPE_MOSTLY_Q4_0"


def write_gguf(folder: Path) -> None:
    """The weights as float32 GGUF, architecture gpt2, without a vocabulary."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(folder / "model.gguf.tmp"), "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    names = {
        "wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm",
        "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    for name, tensor in load_file(folder / "model.safetensors").items():
        stem, kind = name.removeprefix("transformer.").rsplit(".", 1)
        if stem.startswith("h."):
            _, layer, inner = stem.split(".", 2)
            stem = f"blk.{layer}.{names[inner]}"
        else:
            stem = names[stem]
        if tensor.ndim == 2 and stem.startswith("blk"):
            tensor = np.ascontiguousarray(tensor.T)  # GPT-2 stores (in, out)
        writer.add_tensor(f"{stem}.{kind}", tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (folder / "model.gguf.tmp").replace(folder / "model.gguf")


def write_small_gguf(folder: Path, name: str, kind: str) -> None:
    """The float32 file with its matrices in a smaller type."""
    import llama_cpp

    LlamaCpp.prepare(folder)
    if (folder / name).exists():
        return
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = getattr(llama_cpp, kind), os.cpu_count() or 1
    source, target = folder / "model.gguf", folder / f"{name}.tmp"
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(params)
    )
    if status:
        raise RuntimeError(f"llama.cpp cannot write {name}: {status}")
    target.replace(folder / name)


PEERS = (LlamaCpp, LlamaCppFlash, LlamaCppBf16, LlamaCppInt8, LlamaCppInt4)
