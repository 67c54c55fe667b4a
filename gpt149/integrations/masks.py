"""Dense masks, read as what the kernel contract can say: exactly, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class Seen:
    """What a mask lets through.

    keys: those that anybody sees; the rest of the call is about them alone.
    window, kv_begin: as in `gpt149.attention`; 0 and None where there is none of it.
    """

    causal: bool
    keys: slice
    window: int = 0
    kv_begin: tuple[int, ...] | None = None


def read_mask(mask: Tensor, batch: int, n_q: int, n_kv: int) -> Seen:
    """The call that sees what the mask shows.

    mask: (batch or 1, n_head or 1, n_q or 1, n_kv), True or 0 where a query sees a key; False, or
        the lowest number of its dtype or less, where it does not.

    Raises:
        InputError: it is no mask for these shapes, or one that the contract cannot say.
    """
    have, want = tuple(mask.shape), (batch, 1, n_q, n_kv)
    if len(have) != 4 or any(have[x] not in {1, want[x]} for x in (0, 2, 3)):
        raise InputError(f"the mask has shape {have}, and must have {want}.")
    sees = _visible(mask).broadcast_to(batch, have[1], n_q, n_kv).numpy(force=True)
    if not (sees == sees[:, :1]).all():
        raise _refusal(mask, "differs from head to head")
    sees = sees[:, 0]
    n_seen, first = np.count_nonzero(sees, -1), sees.argmax(-1)  # (batch, n_q)
    n_runs = np.count_nonzero(sees[..., 0]) + np.count_nonzero(sees[..., 1:] > sees[..., :-1])
    if n_runs != np.count_nonzero(n_seen):
        raise _refusal(mask, "hides keys between those that a query sees")
    end = first + n_seen
    n = max(int(end.max()), 1)
    begin = np.where(n_seen > 0, first, n).min(1)
    for causal, window in ((False, 0), (True, 0), (True, int(n_seen.max()))):
        if causal and n < n_q:
            break
        visible = np.arange(n - n_q, n) + 1 if causal else np.full(n_q, n)
        left = np.maximum(begin[:, None], visible - (window or n_kv))
        n_said = np.maximum(visible - left, 0)
        if (n_seen == n_said).all() and (first == np.where(n_said > 0, left, 0)).all():
            skip = min(int(begin.min()), n - n_q if causal else n - 1)
            hidden = tuple((begin - skip).tolist())
            return Seen(causal, slice(skip, n), window, hidden if any(hidden) else None)
    if n < n_q or (end[:, -1] < n).any():
        raise _refusal(mask, "hides the last keys of a sequence (padding on the right)")
    raise _refusal(mask, "jumps from query to query (packed sequences, chunks, images)")


def _visible(mask: Tensor) -> Tensor:
    """True where a query sees a key."""
    if mask.dtype == torch.bool:
        return mask
    if not mask.is_floating_point():
        raise InputError(f"the mask has dtype {mask.dtype}, and must be of booleans or floats.")
    sees = mask == 0
    if bool((~sees & (mask > torch.finfo(mask.dtype).min)).any()):
        raise _refusal(mask, "adds biases to scores")
    return sees


def _refusal(mask: Tensor, why: str) -> InputError:
    return InputError(
        f"the mask {tuple(mask.shape)} {why}. A kernel can be told of causal or full attention, "
        "with a sliding window and padding on the left. Pad on the left, run sequences apart, or "
        "use attn_implementation='eager'."
    )
