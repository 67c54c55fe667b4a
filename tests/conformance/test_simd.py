"""The kernel `simd`: every instruction set it is built for, its two paths, and its exp2."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.kernels.build import build
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.registry import resolve

MARCHES = ("native", "x86-64-v3", "x86-64")
ISAS = {"x86-64-v3": "avx2", "x86-64": "portable"}

# n_head, n_kv_head, n_q, n_kv, head_dim: wide tiles, dropped vectors, rows of a group together,
# keys split into shares, tails everywhere.
SHAPES = [
    (3, 3, 200, 200, 64),
    (2, 2, 97, 301, 80),
    (2, 1, 50, 50, 33),
    (1, 1, 130, 130, 128),
    (4, 2, 16, 700, 96),
    (6, 2, 3, 513, 64),
    (4, 1, 1, 1025, 64),
    (2, 2, 4, 514, 20),
    (3, 3, 2, 300, 80),
    (2, 2, 1, 70, 57),
    (8, 1, 16, 16, 7),
    (1, 1, 1, 1, 3),
    (2, 2, 5, 600, 64),
    (14, 2, 1, 1100, 40),
    (8, 1, 1, 700, 128),
    (1, 1, 13, 530, 24),
    (2, 1, 8, 513, 33),
    (1, 1, 100, 1500, 64),  # shares that the first queries see nothing of
    (1, 1, 700, 1100, 16),
    (6, 6, 2, 5000, 16),
]


@pytest.fixture(params=MARCHES)
def march(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GPT149_MARCH", request.param)
    return str(request.param)


def tensors(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    n_head, n_kv_head, n_q, n_kv, head_dim = shape
    g = torch.Generator().manual_seed(149)
    return (
        torch.randn(2, n_head, n_q, head_dim, generator=g),
        torch.randn(2, n_kv_head, n_kv, head_dim, generator=g),
        torch.randn(2, n_kv_head, n_kv, head_dim, generator=g),
    )


def assert_right(attend: Attention, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> None:
    """Within a few roundings of float64, for scores and values about 1."""
    atol = 3e-6 if k.dtype == torch.float32 else 2e-2  # Q and weights may be rounded, too
    want = Attention("reference")(q, k.float(), v.float(), causal=causal)
    torch.testing.assert_close(attend(q, k, v, causal=causal), want, rtol=0, atol=atol)


def test_isa_is_said(march: str) -> None:
    isa = resolve("simd").isa
    assert isa == ISAS.get(march, isa)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("causal", [True, False])
def test_shapes(march: str, shape: tuple[int, ...], causal: bool) -> None:
    assert_right(Attention("simd", n_threads=2), *tensors(shape), causal)


@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not on the PATH")
def test_clang_builds_it_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "clang++")
    attend = Attention("simd", n_threads=1)
    for shape in SHAPES:
        assert_right(attend, *tensors(shape), causal=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_keys_and_values(march: str, shape: tuple[int, ...]) -> None:
    q, k, v = tensors(shape)
    assert_right(Attention("simd", n_threads=2), q, k.bfloat16(), v.bfloat16(), True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_alone_and_in_company_a_head_has_the_same_bits(shape: tuple[int, ...]) -> None:
    """The engine's threads share out heads, and a batch has other sequences."""
    q, k, v = tensors(shape)
    attend, group = Attention("simd", n_threads=2), shape[0] // shape[1]
    alone = attend(q[:1, :group], k[:1, :1], v[:1, :1], causal=True)
    assert torch.equal(alone, attend(q, k, v, causal=True)[:1, :group])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(shape: tuple[int, ...]) -> None:
    q, k, v = tensors(shape)
    one, *more = (Attention("simd", n_threads=n)(q, k, v, causal=True) for n in (1, 2, 3, 8))
    assert all(torch.equal(one, other) for other in more)


@pytest.mark.parametrize("n_q", [1, 40])
@pytest.mark.parametrize("rise", [1e2, 1e4, -1e4])
def test_scores_that_grow_beyond_what_the_first_keys_tell(
    march: str, n_q: int, rise: float
) -> None:
    """Each row's maximum moves by hundreds, up or down: sums would overflow or vanish."""
    q, k, v = tensors((2, 2, n_q, 600, 64))
    k = k + torch.linspace(0, rise / 64, 600)[:, None] * q.mean(2, keepdim=True).sign()
    want = Attention("reference")(q, k, v, causal=True)
    got = Attention("simd")(q, k, v, causal=True)
    # Scores of thousands carry rounding of their own size into the exponent.
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6 * max(100.0, abs(rise)))


def test_nan_is_not_hidden() -> None:
    q, k, v = tensors((1, 1, 20, 20, 16))
    k[0, 0, 3, 5] = torch.nan
    out = Attention("simd")(q, k, v, causal=True)
    assert out[0, 0, :3].isfinite().all()
    assert out[0, 0, 3:].isnan().all()


@pytest.mark.usefixtures("march")
def test_a_sink_far_above_all_scores_leaves_nothing() -> None:
    """Scores of -100,000, in a tile whose maximum is stale."""
    assert check("simd", [case for case in quick() if case.name == "sinks-pair-5"]).right


def test_exp2_errs_by_less_than_three_units(march: str, tmp_path: Path) -> None:
    source = tmp_path / "exp2.cpp"
    source.write_text(
        '#include "simd.h"\n'
        'extern "C" void powers(const float *x, float *y, int n) {\n'
        "    for (int i = 0; i < n; i += LANES)\n"
        "        store(y + i, exp2(load(x + i)));\n"
        "}\n"
    )
    powers = ctypes.CDLL(str(build(source))).powers
    x = np.linspace(-124, 126, 1 << 20, dtype=np.float32)
    y = np.empty_like(x)
    powers(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), len(x))
    want = np.exp2(x.astype(np.float64))
    units = np.abs(y - want) / np.spacing(want.astype(np.float32))
    assert units.max() < 3
