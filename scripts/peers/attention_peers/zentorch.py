"""AMD's plugin for torch, which wants a certain torch, so an environment of its own:

python -m venv zen
zen/bin/pip install . zentorch==2.13.0.2 torch==2.13.0
export ZENTORCH_PYTHON=zen/bin/python
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt149.check.cases import Case

from . import is_causal, mask_of
from .torch import TorchPeer


class ZenTorch(TorchPeer):
    name = "zentorch"
    needs = ("torch", "zentorch")
    python_in = "ZENTORCH_PYTHON"

    def prepared(self, case: Case) -> Callable[..., Any]:
        import torch
        import zentorch  # noqa: F401, registers its operators

        sdpa, causal = torch.ops.zentorch.zentorch_sdpa, is_causal(case)
        mask = mask_of(case)
        added = None if mask is None else torch.from_numpy(mask[None, None])
        return lambda q, k, v: sdpa(q, k, v, 0.0, causal, attn_mask=added)[0]


PEERS = (ZenTorch,)
