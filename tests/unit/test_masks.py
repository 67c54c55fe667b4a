"""Dense masks: what is read of them sees the same, or they are refused."""

from __future__ import annotations

import pytest
import torch

from gpt149.errors import InputError
from gpt149.integrations.masks import Seen, read_mask

N = 8


def shown(seen: Seen, batch: int, n_q: int, n_kv: int) -> torch.Tensor:
    """The mask of a call, written out from the contract: (batch, n_q, n_kv)."""
    sees = torch.zeros(batch, n_q, n_kv, dtype=torch.bool)
    n = seen.keys.stop - seen.keys.start
    for b in range(batch):
        for i in range(n_q):
            p = i + n - n_q
            for j in range(n):
                hidden = seen.kv_begin is not None and j < seen.kv_begin[b]
                if seen.causal:
                    hidden = hidden or j > p or (seen.window > 0 and j <= p - seen.window)
                sees[b, i, seen.keys.start + j] = not hidden
    return sees


def read(sees: torch.Tensor) -> Seen:
    batch, n_q, n_kv = sees.shape
    return read_mask(sees[:, None], batch, n_q, n_kv)


def mask(n_q: int, n: int, window: int = N, begin: tuple[int, ...] = (0,)) -> torch.Tensor:
    """A causal one with N - n keys behind the last that nobody sees, as a static cache has."""
    p, j = torch.arange(n - n_q, n)[:, None], torch.arange(N)
    return torch.stack([(j <= p) & (j > p - window) & (j >= b) for b in begin])


@pytest.mark.parametrize("begin", [(0,), (3,), (0, 3), (2, 3), (5, 0), (1, N)])
def test_what_is_read_sees_the_same(begin: tuple[int, ...]) -> None:
    for n in range(1, N + 1):
        for n_q in range(1, n + 1):
            for window in range(1, N + 1):
                sees = mask(n_q, n, window, begin)
                assert torch.equal(shown(read(sees), *sees.shape), sees)


def test_as_little_as_can_be_is_asked_of_the_kernel() -> None:
    assert read(mask(8, 8)) == Seen(True, slice(0, 8))
    assert read(mask(3, 5)) == Seen(True, slice(0, 5))
    assert read(mask(1, 6)) == Seen(False, slice(0, 6))
    assert read(mask(1, 6, window=4)) == Seen(False, slice(2, 6))
    assert read(mask(1, 6, begin=(2, 2))) == Seen(False, slice(2, 6))
    assert read(mask(3, 7, window=2)) == Seen(True, slice(3, 7), 2)
    assert read(mask(3, 7, window=7)) == Seen(True, slice(0, 7))
    assert read(mask(2, 7, window=4, begin=(1, 5))) == Seen(True, slice(2, 7), 4, (0, 3))
    assert read(mask(8, 8, begin=(3,))) == Seen(True, slice(0, 8), 0, (3,))
    assert read(torch.ones(2, 3, 8, dtype=torch.bool)) == Seen(False, slice(0, 8))


def test_where_nobody_sees_anything_all_keys_are_hidden() -> None:
    assert read(torch.zeros(2, 3, N, dtype=torch.bool)) == Seen(False, slice(0, 1), 0, (1, 1))


def test_every_mask_of_a_few_keys_is_read_exactly_or_refused() -> None:
    n_read = 0
    for bits in range(1 << 9):
        sees = torch.tensor([bits >> i & 1 for i in range(9)]).bool().reshape(1, 3, 3)
        try:
            found = read(sees)
        except InputError:
            continue
        n_read += 1
        assert torch.equal(shown(found, 1, 3, 3), sees)
    assert n_read == 13


@pytest.mark.parametrize(
    ("sees", "why"),
    [
        (mask(8, 8) & (torch.arange(N) < 5), "padding on the right"),
        (torch.stack([mask(8, 8)[0], mask(8, 8)[0] & (torch.arange(N) < 5)]), "on the right"),
        (mask(8, 8) & (torch.arange(N) != 2), "between those that a query sees"),
        (torch.kron(torch.eye(2), torch.ones(4, 4)).tril().bool()[None], "packed sequences"),
        (mask(8, 8) | (torch.arange(N) < 3), "packed sequences, chunks, images"),
    ],
)
def test_the_refusal_names_what_the_mask_does(sees: torch.Tensor, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read(sees)


@pytest.mark.parametrize("hidden", [float("-inf"), torch.finfo(torch.float32).min])
def test_masks_of_floats_are_read_where_they_only_hide(hidden: float) -> None:
    floats = torch.zeros(1, 1, 3, 5).masked_fill(~torch.ones(3, 5).tril(1).bool(), hidden)
    assert read_mask(floats, 2, 3, 5) == Seen(True, slice(0, 4))
    floats[..., 4] = -1.0
    with pytest.raises(InputError, match="adds biases"):
        read_mask(floats, 1, 3, 5)


def test_heads_must_agree_and_shapes_fit() -> None:
    sees = torch.ones(1, 2, 4, N).tril(N - 4).bool()
    assert read_mask(sees, 1, 4, N) == Seen(True, slice(0, N))
    sees[0, 1, 0, 0] = False
    with pytest.raises(InputError, match="from head to head"):
        read_mask(sees, 1, 4, N)
    for shape in ((4, N), (1, 1, 4, N - 1), (3, 1, 4, N), (2, 1, 3, N)):
        with pytest.raises(InputError, match=r"must have \(2, 1, 4, 8\)"):
            read_mask(torch.ones(shape).bool(), 2, 4, N)
