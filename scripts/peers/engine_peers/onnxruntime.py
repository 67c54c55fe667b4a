"""ONNX Runtime, with ONNX files that torch exports: pip install onnxruntime onnx."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_files import past_names, torch_step

from . import Stepper


class OnnxRuntime(Stepper):
    name = "ONNX Runtime"
    needs = ("onnxruntime", "onnx")
    file = "step.onnx"

    @staticmethod
    def prepare(model: Path) -> None:
        if not (model / OnnxRuntime.file).exists():
            write_onnx(model)

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
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

    name, precision = "ONNX Runtime, int8", "int8"
    file = "step-int8.onnx"

    @staticmethod
    def prepare(model: Path) -> None:
        OnnxRuntime.prepare(model)
        if not (model / OnnxRuntimeInt8.file).exists():
            quantise_onnx(model, OnnxRuntimeInt8.file)


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


def quantise_onnx(folder: Path, name: str) -> None:
    """The float32 file with its products in int8; the head too, which stands there transposed."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        folder / "step.onnx", folder / f"{name}.tmp", per_channel=True, weight_type=QuantType.QInt8
    )
    (folder / f"{name}.tmp").replace(folder / name)


PEERS = (OnnxRuntime, OnnxRuntimeInt8)
