"""ONNX Runtime's three operators, each a graph of one node: pip install onnxruntime onnx."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt149.check.cases import Case

from . import (
    F32,
    AttentionPeer,
    CannotRun,
    Inputs,
    aligned,
    head_major,
    is_causal,
    mask_of,
    token_major,
)

Arrays = dict[str, Any]


class OnnxPeer(AttentionPeer):
    """An operator, with its inputs bound: nothing is copied, or allocated, in a call."""

    needs = ("onnxruntime", "onnx")
    domain = "com.microsoft"
    operator: str

    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        import onnxruntime

        self.check(case)
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        self.calls = []
        session = None
        for tensors in sets:
            inputs, outputs = self.arrays(case, *tensors)
            session = session or self.session(case, inputs, outputs, n_threads)
            binding = session.io_binding()
            values = {name: value(array) for name, array in inputs.items()}
            for name, bound in values.items():
                binding.bind_ortvalue_input(name, bound)
            for name, array in outputs.items():  # an array of the inputs is updated in place
                same = [key for key, given in inputs.items() if given is array]
                binding.bind_ortvalue_output(name, values[same[0]] if same else value(array))
            self.calls.append((session, binding, outputs["out"]))

    def session(
        self, case: Case, inputs: Mapping[str, Any], outputs: Mapping[str, Any], n_threads: int
    ) -> Any:
        import onnxruntime
        from onnx import helper

        def told(arrays: Mapping[str, Any]) -> list[Any]:
            kind = helper.np_dtype_to_tensor_dtype
            return [
                helper.make_tensor_value_info(name, kind(array.dtype), array.shape)
                for name, array in arrays.items()
            ]

        names = [name if name in inputs else "" for name in self.order(inputs)]
        node = helper.make_node(
            self.operator, names, list(outputs), domain=self.domain, **self.attributes(case)
        )
        graph = helper.make_graph([node], "attention", told(inputs), told(outputs))
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=11)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options)

    def check(self, case: Case) -> None:
        """Raise CannotRun where the operator has no such call."""

    def order(self, inputs: Mapping[str, Any]) -> Sequence[str]:
        """The operator's inputs; those that are not among ours are left out."""
        return list(inputs)

    @abstractmethod
    def attributes(self, case: Case) -> dict[str, int]:
        """Of the node."""

    @abstractmethod
    def arrays(self, case: Case, q: F32, k: F32, v: F32) -> tuple[Arrays, Arrays]:
        """Inputs and outputs in the operator's layout; the first output is `out`."""

    def call(self, i: int) -> Any:
        session, binding, out = self.calls[i]
        session.run_with_iobinding(binding)
        return out

    def result(self, out: Any) -> F32:
        found: F32 = out[0] if out.ndim == 4 else head_major(out, self.case.n_head)
        return found


class MultiHeadAttention(OnnxPeer):
    """Keys and values head-major, as of a cache; all token-major where n_q = n_kv."""

    name = "ORT MultiHeadAttention"
    operator = "MultiHeadAttention"

    def check(self, case: Case) -> None:
        if case.n_head != case.n_kv_head:
            raise CannotRun("no grouped heads")

    def order(self, inputs: Mapping[str, Any]) -> Sequence[str]:
        return ["q", "k", "v", "bias", "padding", "mask"] if "mask" in inputs else list(inputs)

    def attributes(self, case: Case) -> dict[str, int]:
        return {"num_heads": case.n_head, "unidirectional": int(is_causal(case))}

    def arrays(self, case: Case, q: F32, k: F32, v: F32) -> tuple[Arrays, Arrays]:
        packed = token_major(q)
        if case.n_q == case.n_kv:
            k, v = token_major(k), token_major(v)
        inputs: Arrays = {"q": packed, "k": k, "v": v}
        mask = mask_of(case)
        if mask is not None:
            inputs["mask"] = mask[None, None]
        return inputs, {"out": aligned(packed.shape)}


class GroupQueryAttention(OnnxPeer):
    """With the cache updated in place: each call writes the queries' own keys and values."""

    name = "ORT GroupQueryAttention"
    operator = "GroupQueryAttention"

    def check(self, case: Case) -> None:
        if not case.causal:
            raise CannotRun("always causal")

    def attributes(self, case: Case) -> dict[str, int]:
        return {"num_heads": case.n_head, "kv_num_heads": case.n_kv_head}

    def arrays(self, case: Case, q: F32, k: F32, v: F32) -> tuple[Arrays, Arrays]:
        packed, behind = token_major(q), case.n_kv - case.n_q
        new = {"k": token_major(k[:, :, behind:]), "v": token_major(v[:, :, behind:])}
        length, total = (np.array([n], np.int32) for n in (case.n_kv - 1, case.n_kv))
        inputs = {"q": packed, **new, "past_k": k, "past_v": v, "length": length, "total": total}
        return inputs, {"out": aligned(packed.shape), "present_k": k, "present_v": v}


class StandardAttention(OnnxPeer):
    """The operator of opset 23."""

    name = "ORT Attention"
    operator, domain = "Attention", ""

    def attributes(self, case: Case) -> dict[str, int]:
        return {"is_causal": int(is_causal(case))}

    def arrays(self, case: Case, q: F32, k: F32, v: F32) -> tuple[Arrays, Arrays]:
        mask = mask_of(case)
        inputs = {"q": q, "k": k, "v": v} | ({} if mask is None else {"mask": mask})
        return inputs, {"out": aligned(q.shape)}


PEERS = (MultiHeadAttention, GroupQueryAttention, StandardAttention)
