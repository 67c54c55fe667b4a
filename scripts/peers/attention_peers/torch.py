"""torch: scaled_dot_product_attention, and FlexAttention, compiled: pip install torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from gpt149.check.cases import Case

from . import F32, AttentionPeer, Inputs, folded, is_causal, mask_of


class TorchPeer(AttentionPeer):
    """A function on tensors that share memory with the inputs."""

    needs: ClassVar[tuple[str, ...]] = ("torch",)

    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        import torch

        torch.set_num_threads(n_threads)
        torch.set_grad_enabled(False)
        self.tensors = [
            (torch.from_numpy(folded(case, q) if case.n_q == 1 else q), *map(torch.from_numpy, kv))
            for q, *kv in sets
        ]
        self.function = self.prepared(case)

    def prepared(self, case: Case) -> Callable[..., Any]:
        """What takes q, k and v; q is folded where n_q is 1."""
        raise NotImplementedError

    def call(self, i: int) -> Any:
        return self.function(*self.tensors[i])

    def result(self, out: Any) -> F32:
        q = self.sets[0][0]
        found: F32 = out.numpy().reshape(q.shape[1:])
        return found


class Sdpa(TorchPeer):
    name = "torch SDPA"
    avx2: ClassVar = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

    def prepared(self, case: Case) -> Callable[..., Any]:
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        mask = mask_of(case)
        how: dict[str, Any] = {"is_causal": is_causal(case)}
        if mask is not None:
            how["attn_mask"] = torch.from_numpy(mask)
        how["enable_gqa"] = case.n_head != case.n_kv_head and case.n_q > 1
        return lambda q, k, v: scaled_dot_product_attention(q, k, v, **how)


class Flex(TorchPeer):
    name = "torch FlexAttention, compiled"

    def prepared(self, case: Case) -> Callable[..., Any]:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        torch._dynamo.reset()  # the number of threads is compiled in
        how: dict[str, Any] = {"enable_gqa": case.n_head != case.n_kv_head and case.n_q > 1}
        if case.causal and case.n_q > 1:
            hidden = case.n_kv - case.n_q

            def sees(b: Any, h: Any, i: Any, j: Any) -> Any:
                return j <= i + hidden

            how["block_mask"] = create_block_mask(
                sees, None, None, case.n_q, case.n_kv, device="cpu"
            )
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda q, k, v: compiled(q, k, v, **how)


PEERS = (Sdpa, Flex)
