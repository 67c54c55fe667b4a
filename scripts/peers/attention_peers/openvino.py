"""OpenVINO's scaled_dot_product_attention, a model of one node: pip install openvino."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt149.check.cases import Case

from . import F32, AttentionPeer, Inputs, aligned, folded, is_causal, mask_of


class OpenVino(AttentionPeer):
    name = "OpenVINO SDPA"
    needs = ("openvino",)

    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        import openvino
        from openvino import opset13

        mask = mask_of(case)
        extra = [] if mask is None else [mask[None, None]]
        self.calls = []
        self.kept = extra  # a tensor that shares memory does not keep it
        compiled = None
        for q, k, v in sets:
            arrays = [folded(case, q) if case.n_q == 1 else q, k, v, *extra]
            if compiled is None:
                inputs = [opset13.parameter(list(a.shape), np.float32) for a in arrays]
                node = opset13.scaled_dot_product_attention(*inputs, causal=is_causal(case))
                model = openvino.Model([node], inputs, "attention")
                settings = {
                    "INFERENCE_NUM_THREADS": n_threads,
                    "INFERENCE_PRECISION_HINT": "f32",
                    "PERFORMANCE_HINT": "LATENCY",
                }
                compiled = openvino.Core().compile_model(model, "CPU", settings)
            request = compiled.create_infer_request()
            for i, array in enumerate(arrays):
                request.set_input_tensor(i, openvino.Tensor(array, shared_memory=True))
            out = aligned(arrays[0].shape)
            request.set_output_tensor(0, openvino.Tensor(out, shared_memory=True))
            self.calls.append((request, out))

    def call(self, i: int) -> Any:
        request, out = self.calls[i]
        request.infer()
        return out

    def result(self, out: Any) -> F32:
        q = self.sets[0][0]
        found: F32 = out.reshape(q.shape[1:])
        return found


PEERS = (OpenVino,)
