"""gpt149's kernels, called as its engines call them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gpt149.check.cases import Case

from . import F32, AttentionPeer, Inputs, aligned

DEFAULT = "simd"


class Kernel(AttentionPeer):
    """A kernel by its name or file, behind the contract of csrc/gpt149.h or on torch tensors."""

    name = DEFAULT
    avx2: ClassVar[dict[str, str] | None] = {"GPT149_MARCH": "x86-64-v3"}

    def pack(self, case: Case, sets: Sequence[Inputs], n_threads: int) -> None:
        from gpt149.kernels.loaders.contract import ContractKernel
        from gpt149.kernels.registry import resolve

        kernel = resolve(self.name)
        if isinstance(kernel, ContractKernel):
            self.prepare_contract(kernel, case, sets, n_threads)
        else:
            self.prepare_tensors(kernel, case, sets, n_threads)

    def prepare_contract(
        self, kernel: Any, case: Case, sets: Sequence[Inputs], n_threads: int
    ) -> None:
        from gpt149.kernels import abi

        out: Any = aligned(sets[0][0].shape)
        self.args: list[Any] = []
        for tensors in sets:
            args = abi.shape_args(**case.shape | {"n_threads": n_threads})
            for name, tensor in zip(("q", "k", "v", "out"), (*tensors, out), strict=True):
                setattr(args, name, tensor.ctypes.data)
                strides = (n_bytes // 4 for n_bytes in tensor.strides[:3])
                setattr(args, f"{name}_stride", abi.Strides(*strides))
            self.args.append(args)
        self.workspace = aligned((kernel.workspace_bytes(self.args[0]),), "uint8")
        for args in self.args:
            args.workspace = self.workspace.ctypes.data
        self.run: Any = kernel.run
        self.out: Any = out

    def prepare_tensors(
        self, kernel: Any, case: Case, sets: Sequence[Inputs], n_threads: int
    ) -> None:
        import torch

        torch.set_num_threads(n_threads)
        self.args = [tuple(map(torch.from_numpy, tensors)) for tensors in sets]
        how = {"causal": case.causal, "scale": case.scale_value}
        self.run = lambda args: kernel.function(*args, **how)
        self.out = None

    def call(self, i: int) -> Any:
        out = self.run(self.args[i])
        return self.out if out is None else out

    def result(self, out: Any) -> F32:
        found: F32 = out[0] if self.out is not None else out[0].numpy()
        return found


def of_kernel(spec: str) -> type[Kernel]:
    """The peer that a kernel is, by its name or file."""
    return type("Kernel", (Kernel,), {"name": spec})


PEERS = (Kernel,)
