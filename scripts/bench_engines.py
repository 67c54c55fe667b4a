"""gpt149 beside other engines: the same weights, prompt, threads, precision and greedy tokens.

    pip install '.[peers,plot]'
    python scripts/bench_engines.py --model gpt2 -p 128 -n 128
    python scripts/bench_engines.py --model tiny -p 1 -p 256 -p 512 -p 960 -n 64 --plot depth.png

The weights are random and written once. Each engine runs in a process of its own; they take turns,
round by round. Engines that are not installed are skipped by name. First tokens are compared, so
that everybody computes the same thing. Prints a Markdown table for each length of prompt, and can
draw decode against depth.

Keys and values are cached in float32, except: float16 in llama.cpp, bfloat16 in OpenVINO's bf16 and
uint8 in its int8, bfloat16 in gpt149's bf16 and int8. These are everybody's defaults.

Prefill is from the prompt's ids to the first token; decode counts the tokens behind it. Where
both together take less than a quarter of a second, a turn lasts as long and counts its medians. The
start is the faster of two, with the files in memory.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import click

from gpt149.bench.html import need_matplotlib
from gpt149.errors import MissingDependency
from gpt149.system.child import Reply, serve
from gpt149.system.memory import peak_rss
from gpt149.system.paths import cache_dir
from gpt149.system.talker import Ending, Talker

STARTS = 2  # the first also finds memory that the machine has yet to find
COMPARED = 8  # first tokens that must be the same everywhere
SEED = 149
MEMORY = 16 << 30
TIMEOUT = 600.0
TURN_SECONDS = 0.25  # one run of a small model is a matter of when its threads wake
SETTLE_SECONDS = 1.0  # some engines' threads spin on for a while, and would slow the next one


class Engine(Protocol):
    """A way to run the model. `prepare` may write beside the model, once."""

    needs: tuple[str, ...]

    @staticmethod
    def prepare(model: Path) -> None: ...

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None: ...

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        """Seconds of the prefill and of the decoding, and n greedy tokens."""


class Stepper:
    """An engine that is fed ids and gives logits, step by step."""

    @staticmethod
    def prepare(model: Path) -> None:
        """Nothing, unless the engine has a format of its own."""

    def reset(self) -> None: ...

    def feed(self, ids: list[int]) -> Any: ...

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        self.reset()
        start = time.perf_counter()
        tokens = [int(self.feed(ids).argmax())]
        prefill = time.perf_counter()
        while len(tokens) < n:
            tokens.append(int(self.feed(tokens[-1:]).argmax()))
        return prefill - start, time.perf_counter() - prefill, tokens


class Gpt149(Stepper):
    needs: tuple[str, ...] = ()
    how: ClassVar[dict[str, Any]] = {}

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        from gpt149.engine.start import start
        from gpt149.model.checkpoint import load

        kernel = self.how.get("kernel", "simd")
        how = {k: v for k, v in self.how.items() if k != "kernel"}
        self.engine = start(load(str(model)), kernel, n_threads=n_threads, **how)

    def reset(self) -> None:
        self.engine.clear()

    def feed(self, ids: list[int]) -> Any:
        return self.engine.feed([ids])[0]

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        from gpt149.engine.generation import Generation, Options
        from gpt149.engine.sampling import Sampling

        self.reset()
        options = Options(n, ignore_eos=True)
        generation = Generation(self.engine, ids, sampling=Sampling(temperature=0), options=options)
        for _ in generation:
            pass
        stats = generation.stats
        return stats.ttft_s or 0.0, stats.decode_s, generation.samples[0].token_ids


class Gpt149Torch(Gpt149):
    needs = ("torch",)
    how: ClassVar = {"engine": "torch"}


class Gpt149Bf16(Gpt149):
    how: ClassVar = {"dtype": "bf16"}


class Gpt149Int8(Gpt149):
    how: ClassVar = {"dtype": "int8"}


class NanoGpt(Gpt149):
    """What nanoGPT and cs149gpt do: all tokens again at every step."""

    needs = ("torch",)
    how: ClassVar = {"kernel": "torch", "kv_cache": False}


class Transformers(Stepper):
    needs = ("torch", "transformers")

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        import torch
        from transformers import GPT2LMHeadModel

        torch.set_num_threads(n_threads)
        torch.set_grad_enabled(False)
        self.n_ctx = n_ctx
        self.model = GPT2LMHeadModel.from_pretrained(str(model)).eval()
        self.step: Any = self.model
        self.reset()

    def reset(self) -> None:
        from transformers import DynamicCache

        self.cache: Any = DynamicCache(config=self.model.config)

    def feed(self, ids: list[int]) -> Any:
        import torch

        run = self.step if len(ids) == 1 else self.model
        out = run(torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1]


class TransformersCompiled(Transformers):
    """With a static cache, and decode steps through torch.compile."""

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        import torch

        super().__init__(model, n_threads, n_ctx)
        self.step = torch.compile(self.model)

    def reset(self) -> None:
        from transformers import StaticCache

        self.cache = StaticCache(config=self.model.config, max_cache_len=self.n_ctx)


class CTranslate2:
    needs = ("ctranslate2",)
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

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        import ctranslate2

        self.generator = ctranslate2.Generator(
            str(model / "ctranslate2"),
            inter_threads=1,
            intra_threads=n_threads,
            compute_type=self.compute_type,
        )

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        start = time.perf_counter()
        steps = self.generator.generate_tokens(
            [f"t{i}" for i in ids], max_length=n, min_length=n, sampling_topk=1
        )
        tokens = [next(steps).token_id]
        prefill = time.perf_counter()
        tokens += [step.token_id for step in steps]
        return prefill - start, time.perf_counter() - prefill, tokens


class CTranslate2Int8(CTranslate2):
    compute_type = "int8"


class LlamaCpp(Stepper):
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
    flash = True


class LlamaCppBf16(LlamaCpp):
    file = "model-bf16.gguf"

    @staticmethod
    def prepare(model: Path) -> None:
        write_small_gguf(model, LlamaCppBf16.file, "LLAMA_FTYPE_MOSTLY_BF16")


class LlamaCppInt8(LlamaCpp):
    file = "model-q8_0.gguf"

    @staticmethod
    def prepare(model: Path) -> None:
        write_small_gguf(model, LlamaCppInt8.file, "LLAMA_FTYPE_MOSTLY_Q8_0")


class OnnxRuntime(Stepper):
    needs = ("onnxruntime", "onnx")
    file = "step.onnx"

    @staticmethod
    def prepare(model: Path) -> None:
        if not (model / OnnxRuntime.file).exists():
            write_onnx(model)

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        self.session = onnxruntime.InferenceSession(str(model / self.file), options)
        self.names = [put.name for put in self.session.get_inputs()]
        config = json.loads((model / "config.json").read_text())
        n_head = config["n_head"]
        empty = np.zeros((1, n_head, 0, config["n_embd"] // n_head), np.float32)
        self.value = onnxruntime.OrtValue.ortvalue_from_numpy
        self.empty = [self.value(empty)] * (len(self.names) - 1)

    def reset(self) -> None:
        self.past = self.empty

    def feed(self, ids: list[int]) -> Any:
        import numpy as np

        values = [self.value(np.array([ids], np.int64)), *self.past]
        logits, *self.past = self.session.run_with_ort_values(
            None, dict(zip(self.names, values, strict=True))
        )
        return logits.numpy()[0, -1]


class OnnxRuntimeInt8(OnnxRuntime):
    """Weights of int8, a scale a column; activations rounded as they come."""

    file = "step-int8.onnx"

    @staticmethod
    def prepare(model: Path) -> None:
        OnnxRuntime.prepare(model)
        if not (model / OnnxRuntimeInt8.file).exists():
            quantise_onnx(model, OnnxRuntimeInt8.file)


class OpenVino(Stepper):
    """With the KV cache as its state, as optimum-intel's export has it."""

    needs: tuple[str, ...] = ("openvino",)
    file = "openvino.xml"
    settings: ClassVar = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}

    @staticmethod
    def prepare(model: Path) -> None:
        if not (model / OpenVino.file).exists():
            write_openvino(model)

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        import openvino

        settings = {"INFERENCE_NUM_THREADS": n_threads, **self.settings}
        compiled = openvino.Core().compile_model(str(model / self.file), "CPU", settings)
        self.request = compiled.create_infer_request()

    def reset(self) -> None:
        self.request.reset_state()

    def feed(self, ids: list[int]) -> Any:
        import numpy as np

        inputs = {"ids": np.array([ids], np.int64), "beam": np.zeros(1, np.int32)}
        return self.request.infer(inputs)[0][0, -1]


class OpenVinoBf16(OpenVino):
    settings: ClassVar = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}


class OpenVinoInt8(OpenVino):
    """Weights compressed by nncf; activations rounded as they come, and the KV cache in uint8."""

    needs = ("openvino", "nncf")
    file = "openvino-int8.xml"
    settings: ClassVar = {"INFERENCE_PRECISION_HINT": "f32"}

    @staticmethod
    def prepare(model: Path) -> None:
        OpenVino.prepare(model)
        if not (model / OpenVinoInt8.file).exists():
            quantise_openvino(model, OpenVinoInt8.file)


class ReadingAlone:
    """No engine: how often all float32 weights can be read, which bounds its decoding."""

    needs: tuple[str, ...] = ()

    @staticmethod
    def prepare(model: Path) -> None: ...

    def __init__(self, model: Path, n_threads: int, n_ctx: int) -> None:
        import numpy as np

        self.memory = np.ones((model / "model.safetensors").stat().st_size // 4, np.float32)
        self.n_threads = n_threads

    def run(self, ids: list[int], n: int) -> tuple[float, float, list[int]]:
        from gpt149.bench.ceilings import read_bandwidth

        once = self.memory.nbytes / read_bandwidth(self.memory, self.n_threads)
        return math.inf, (n - 1) * once, []


ENGINES: dict[str, type[Any]] = {
    "gpt149": Gpt149,
    "gpt149, torch engine": Gpt149Torch,
    "nanoGPT-style, no cache": NanoGpt,
    "transformers": Transformers,
    "transformers, static cache + compile": TransformersCompiled,
    "CTranslate2": CTranslate2,
    "llama.cpp": LlamaCpp,
    "llama.cpp, flash attention": LlamaCppFlash,
    "ONNX Runtime": OnnxRuntime,
    "OpenVINO": OpenVino,
    "gpt149, bf16": Gpt149Bf16,
    "llama.cpp, bf16": LlamaCppBf16,
    "OpenVINO, bf16": OpenVinoBf16,
    "gpt149, int8": Gpt149Int8,
    "CTranslate2, int8": CTranslate2Int8,
    "llama.cpp, q8_0": LlamaCppInt8,
    "ONNX Runtime, int8": OnnxRuntimeInt8,
    "OpenVINO, int8": OpenVinoInt8,
    "(reading the weights alone)": ReadingAlone,
}


def write_model(spec: str) -> Path:
    """Random weights as a Hugging Face directory."""
    from gpt149.model.checkpoint import load
    from gpt149.model.formats.gpt2 import save_gpt2

    folder = cache_dir() / "engines" / spec
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    save_gpt2(load(f"random:{spec}").model, folder)
    (folder / "done").touch()
    return folder


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


def torch_step(folder: Path) -> Any:
    """A module (ids, k0, v0, k1, ...) -> (logits, and the keys and values with this step's)."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from gpt149.model.checkpoint import load

    model: Any = load(str(folder)).model
    c = model.config

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
            held = past[0].shape[2]
            total = held + ids.shape[1]
            positions = torch.arange(held, total)
            seen = torch.arange(total)[None, :] <= positions[:, None]
            x = self.model.wte(ids) + self.model.wpe(positions)
            cache: list[Tensor] = []
            for i, block in enumerate(self.model.h):
                q, *new = (
                    t.reshape(1, -1, c.n_head, c.head_dim).transpose(1, 2)
                    for t in block.attn.c_attn(block.ln_1(x)).split(c.n_embd, dim=2)
                )
                k, v = (
                    torch.cat(pair, dim=2)
                    for pair in zip(past[2 * i : 2 * i + 2], new, strict=True)
                )
                cache += [k, v]
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
                x = x + block.attn.c_proj(y.transpose(1, 2).reshape(1, -1, c.n_embd))
                x = x + block.mlp(block.ln_2(x))
            x = self.model.ln_f(x[:, -1:])
            return x @ self.model.wte.weight.T, *cache

    return Step().eval()


def past_names(n_layer: int) -> list[str]:
    return [f"{which}{i}" for i in range(n_layer) for which in "kv"]


def write_onnx(folder: Path) -> None:
    """The model with the KV cache as inputs and outputs, (1, n_head, tokens, head_dim) each."""
    import torch

    step = torch_step(folder)
    c = step.model.config
    names, empty = past_names(c.n_layer), torch.zeros(1, c.n_head, 3, c.head_dim)
    torch.onnx.export(
        step, (torch.zeros(1, 2, dtype=torch.long), *[empty] * len(names)),
        str(folder / "step.onnx.tmp"), dynamo=False, opset_version=18,
        input_names=["ids", *names], output_names=["logits", *(f"{n}_out" for n in names)],
        dynamic_axes={"ids": {1: "n"}, **{n: {2: "held"} for n in names}},
    )  # fmt: skip
    (folder / "step.onnx.tmp").replace(folder / "step.onnx")


def write_openvino(folder: Path) -> None:
    """The model with the KV cache as its state, which `beam` (all 0 here) permutes."""
    import numpy as np
    import openvino
    import torch
    from openvino import opset13
    from openvino._offline_transformations import apply_make_stateful_transformation
    from torch import Tensor, nn

    step = torch_step(folder)
    c = step.model.config
    names, empty = past_names(c.n_layer), torch.zeros(1, c.n_head, 3, c.head_dim)

    class Beams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = step

        def forward(self, ids: Tensor, beam: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
            return self.step(ids, *(p.index_select(0, beam) for p in past))  # type: ignore[no-any-return]

    example = (torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, dtype=torch.int32))
    model = openvino.convert_model(Beams().eval(), example_input=(*example, *[empty] * len(names)))
    for port, name in zip(model.inputs, ["ids", "beam", *names], strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, ["logits", *(f"{n}_out" for n in names)], strict=True):
        port.get_tensor().set_names({name})
    shapes = {"ids": [1, -1], "beam": [1], **{n: [1, c.n_head, -1, c.head_dim] for n in names}}
    model.reshape({name: openvino.PartialShape(shape) for name, shape in shapes.items()})
    apply_make_stateful_transformation(model, {n: f"{n}_out" for n in names})
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            shape = opset13.constant([1, c.n_head, 0, c.head_dim], dtype=np.int64)
            node.set_arguments([opset13.broadcast(opset13.constant(0, dtype=np.float32), shape)])
    model.validate_nodes_and_infer_types()
    save_openvino(model, folder / "openvino.xml")


def save_openvino(model: Any, path: Path) -> None:
    import openvino

    whole = path.with_stem(f"{path.stem}-whole")
    openvino.save_model(model, str(whole), compress_to_fp16=False)
    whole.with_suffix(".bin").replace(path.with_suffix(".bin"))
    whole.replace(path)  # last: where it is, the rest is too


def quantise_openvino(folder: Path, name: str) -> None:
    """The float32 file with its matrices in int8, a scale a row."""
    import nncf
    import openvino

    model = openvino.Core().read_model(str(folder / "openvino.xml"))
    model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    save_openvino(model, folder / name)


def quantise_onnx(folder: Path, name: str) -> None:
    """The float32 file with its products in int8; the head too, which stands there transposed."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        folder / "step.onnx", folder / f"{name}.tmp", per_channel=True, weight_type=QuantType.QInt8
    )
    (folder / f"{name}.tmp").replace(folder / name)


def begin(
    name: str, model: Path, n_threads: int, n_ctx: int
) -> tuple[Reply, Callable[[Reply], Reply]]:
    """In the child: load the engine, and give what runs a prompt."""
    engine = ENGINES[name](model, n_threads, n_ctx)

    def answer(question: Reply) -> Reply:
        until = time.monotonic() + question["seconds"]
        runs = [engine.run(question["ids"], question["n"])]
        finished = time.time()
        while time.monotonic() < until:
            runs.append(engine.run(question["ids"], question["n"]))
        prefill, decode, tokens = zip(*runs, strict=True)
        return {
            "prefill": statistics.median(prefill), "decode": statistics.median(decode),
            "tokens": tokens[0], "peak_rss": peak_rss(), "finished": finished,
        }  # fmt: skip

    return {"ready": True}, answer


@dataclass
class Measured:
    """An engine's samples, in seconds."""

    prefill: list[float]
    decode: list[float]
    start: float
    peak_rss: int
    tokens: list[int]


def read_once(folder: Path) -> None:
    """So that a start takes no engine's file from a disk and another's from memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as f:
                while f.read(1 << 24):
                    pass


def measure(
    names: Sequence[str], model: Path, ids: list[int], n: int, n_threads: int, rounds: int
) -> dict[str, Measured | str]:
    """Every engine's samples, or why there are none; A B C A B C ..."""
    read_once(model)
    found: dict[str, Measured | str] = {}
    players: dict[str, Talker] = {}
    n_ctx = len(ids) + n
    turn = {"ids": ids, "n": n, "seconds": 0}
    try:
        for name in names:
            command = [sys.executable, __file__, "--serve", name, "--path", str(model)]
            command += ["--threads", str(n_threads), "--n-ctx", str(n_ctx), "--answers"]
            players[name] = Talker(command, MEMORY)
            starts = []
            for _ in range(STARTS):
                players[name].restart()
                born = time.time()
                first = players[name].ask(turn | {"n": 1}, TIMEOUT)
                if isinstance(first, Ending):
                    break
                starts.append(first["finished"] - born)
            if isinstance(first, Ending):
                said = players[name].noise().strip().splitlines() or [first.detail]
                found[name] = f"failed: {said[-1][:100]}"
                continue
            warm = players[name].ask(turn, TIMEOUT)  # some compile now
            assert isinstance(warm, dict)
            found[name] = Measured([], [], min(starts), 0, warm["tokens"])
        for _ in range(rounds):
            for name, kept in found.items():
                if isinstance(kept, str):
                    continue
                time.sleep(SETTLE_SECONDS)
                reply = players[name].ask(turn | {"seconds": TURN_SECONDS}, TIMEOUT)
                assert isinstance(reply, dict)
                kept.prefill.append(reply["prefill"])
                kept.decode.append(reply["decode"])
                kept.peak_rss = reply["peak_rss"]
    finally:
        for player in players.values():
            with player:
                pass
    return found


def table(found: dict[str, Measured | str], n_prompt: int, n: int) -> str:
    """Markdown: medians, and from where to where."""
    lines = [
        "| engine | prefill tok/s | decode tok/s | start to first token | peak RSS | same tokens |",
        "|---|---:|---:|---:|---:|---|",
    ]
    told = [m.tokens for m in found.values() if isinstance(m, Measured) and m.tokens]
    reference = told[0] if told else []
    for name, m in found.items():
        if isinstance(m, str):
            lines.append(f"| {name} | {m} | | | | |")
            continue
        prefill = [n_prompt / s for s in m.prefill]
        decode = [(n - 1) / s for s in m.decode]
        if not m.tokens:
            lines.append(f"| {name} | | {_range(decode)} | | | |")
            continue
        same = "yes" if m.tokens[:COMPARED] == reference[:COMPARED] else "NO"
        lines.append(
            f"| {name} | {_range(prefill)} | {_range(decode)} | {m.start:.2f} s "
            f"| {m.peak_rss / 1e6:.0f} MB | {same} |"
        )
    return "\n".join(lines)


def draw(by_depth: dict[int, dict[str, Measured | str]], n: int, to: Path) -> None:
    """Decode tok/s of each engine against the tokens that lie behind."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    colours = pyplot.get_cmap("tab20").colors
    for name, colour in zip(next(iter(by_depth.values())), colours, strict=False):
        points = [
            (depth + n / 2, (n - 1) / statistics.median(m.decode))
            for depth, found in by_depth.items()
            if isinstance(m := found[name], Measured)
        ]
        mine = name.startswith("gpt149")
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            color=colour,
            linewidth=3 if mine else 1,
            label=name,
        )
    axes.set(xlabel="tokens in the KV cache", ylabel="decode, tok/s", yscale="log")
    axes.grid(which="both", alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(to, dpi=110)


def _range(rates: Sequence[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


@click.command(help=__doc__)
@click.option("--model", default="gpt2", show_default=True, help="gpt2 or tiny: random weights.")
@click.option(
    "-p", "prompts", default=[128], show_default=True, multiple=True, help="Tokens of the prompt."
)
@click.option("-n", default=128, show_default=True, help="Tokens to generate.")
@click.option("--threads", default=os.cpu_count, type=int, help="Default: every processor.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--engines", help=f"Some of: {'; '.join(ENGINES)}. Separated by semicolons.")
@click.option("--plot", type=Path, help="PNG to draw, of decode against depth.")
@click.option("--serve", "served", hidden=True)
@click.option("--path", hidden=True, type=Path)
@click.option("--n-ctx", hidden=True, type=int)
@click.option("--answers", hidden=True, type=int)
def main(
    model: str,
    prompts: Sequence[int],
    n: int,
    threads: int,
    rounds: int,
    engines: str | None,
    plot: Path | None,
    served: str | None,
    path: Path | None,
    n_ctx: int | None,
    answers: int | None,
) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if served and path and n_ctx and answers is not None:
        serve(answers, lambda: begin(served, path, threads, n_ctx))
        return
    if plot:
        try:
            need_matplotlib("--plot")
        except MissingDependency as e:
            raise click.UsageError(str(e)) from e
        if not plot.parent.is_dir():
            raise click.UsageError(f"there is no folder {plot.parent} for --plot.")
    folder = write_model(model)
    wanted = [name.strip() for name in engines.split(";")] if engines else list(ENGINES)
    unknown = [name for name in wanted if name not in ENGINES]
    if unknown:
        raise click.UsageError(f"unknown engine '{unknown[0]}'. Known: {'; '.join(ENGINES)}.")
    here = []
    for name in wanted:
        missing = [m for m in ENGINES[name].needs if importlib.util.find_spec(m) is None]
        if missing:
            click.echo(f"skipped {name}: {', '.join(missing)} is not installed", err=True)
            continue
        click.echo(f"preparing {name}", err=True)
        ENGINES[name].prepare(folder)
        here.append(name)
    vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
    chance = random.Random(SEED)
    ids = [chance.randrange(vocab) for _ in range(max(prompts))]
    by_depth = {}
    for n_prompt in prompts:
        by_depth[n_prompt] = measure(here, folder, ids[:n_prompt], n, threads, rounds)
        click.echo(f"{model}, {n_prompt} + {n} tokens, {threads} threads\n")
        click.echo(table(by_depth[n_prompt], n_prompt, n) + "\n")
    if plot:
        draw(by_depth, n, plot)


if __name__ == "__main__":
    main()
