"""llama.cpp by its Python bindings, with GGUF files: pip install llama-cpp-python gguf."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

from . import Stepper


class LlamaCpp(Stepper):
    name = "llama.cpp"
    needs = ("llama_cpp", "gguf")
    flash = False
    file = "model.gguf"

    @staticmethod
    def prepare(model: Path) -> None:
        if not (model / "model.gguf").exists():
            write_gguf(model)

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        from llama_cpp import Llama

        self.llama = Llama(
            str(model / self.file), n_ctx=n_ctx, n_batch=n_ctx, n_ubatch=n_ctx,
            n_threads=n_threads, n_threads_batch=n_threads, flash_attn=self.flash, verbose=False,
        )  # fmt: skip

    def reset(self) -> None:
        self.llama.reset()

    def feed(self, ids: list[int]) -> Any:
        import numpy as np

        self.llama.eval(ids)
        logits = self.llama._ctx.get_logits_ith(-1)
        return np.ctypeslib.as_array(logits, (self.llama.n_vocab(),))


class LlamaCppFlash(LlamaCpp):
    name = "llama.cpp, flash attention"
    flash = True


class LlamaCppBf16(LlamaCpp):
    name, precision = "llama.cpp, bf16", "bf16"
    file = "model-bf16.gguf"

    @staticmethod
    def prepare(model: Path) -> None:
        write_small_gguf(model, LlamaCppBf16.file, "LLAMA_FTYPE_MOSTLY_BF16")


class LlamaCppInt8(LlamaCpp):
    name, precision = "llama.cpp, q8_0", "int8"
    file = "model-q8_0.gguf"

    @staticmethod
    def prepare(model: Path) -> None:
        write_small_gguf(model, LlamaCppInt8.file, "LLAMA_FTYPE_MOSTLY_Q8_0")


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


PEERS = (LlamaCpp, LlamaCppFlash, LlamaCppBf16, LlamaCppInt8)
