"""OpenVINO, with files of its own that it converts from torch: pip install openvino nncf."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from model_files import past_names, torch_step

from . import Stepper


class OpenVino(Stepper):
    """With the KV cache as its state, as optimum-intel's export has it."""

    name = "OpenVINO"
    needs: ClassVar[tuple[str, ...]] = ("openvino",)
    file = "openvino.xml"
    settings: ClassVar = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}

    @staticmethod
    def prepare(model: Path) -> None:
        if not (model / OpenVino.file).exists():
            write_openvino(model)

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
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
    name, precision = "OpenVINO, bf16", "bf16"
    settings: ClassVar = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}


class OpenVinoInt8(OpenVino):
    """Weights compressed by nncf; activations rounded as they come, and the KV cache in uint8."""

    name, precision = "OpenVINO, int8", "int8"
    needs = ("openvino", "nncf")
    file = "openvino-int8.xml"
    settings: ClassVar = {"INFERENCE_PRECISION_HINT": "f32"}

    @staticmethod
    def prepare(model: Path) -> None:
        OpenVino.prepare(model)
        if not (model / OpenVinoInt8.file).exists():
            quantise_openvino(model, OpenVinoInt8.file, "INT8_SYM")


class OpenVinoInt4(OpenVinoInt8):
    """Weights in groups of 32 with a scale each, but for the embedding and the head: int8."""

    name, precision = "OpenVINO, int4", "int4"
    file = "openvino-int4.xml"

    @staticmethod
    def prepare(model: Path) -> None:
        OpenVino.prepare(model)
        if not (model / OpenVinoInt4.file).exists():
            quantise_openvino(model, OpenVinoInt4.file, "INT4_SYM", group_size=32)


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


def quantise_openvino(folder: Path, name: str, mode: str, **how: Any) -> None:
    """The float32 file with its matrices in a mode of nncf; how: its other arguments."""
    import nncf
    import openvino

    model = openvino.Core().read_model(str(folder / "openvino.xml"))
    model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode[mode], **how)
    save_openvino(model, folder / name)


PEERS = (OpenVino, OpenVinoBf16, OpenVinoInt8, OpenVinoInt4)
