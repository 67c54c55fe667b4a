"""Variants of attention: who claims them is right, and nobody else is asked."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from gpt149 import attention
from gpt149.errors import InputError, KernelDeclined
from gpt149.kernels.registry import resolve

ALL = ("naive", "flash", "simd", "reference")
SOME = ("blocked", "fused", "torch")
OLD = """
#include "gpt149.h"
#include <cmath>
static int64_t workspace_bytes(const gpt149_args *a) { return a->n_kv * sizeof(float); }
static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                float *s = (float *)a->workspace, *out = gpt149_out(a, b, h, i);
                float m = -INFINITY, l = 0;
                for (int j = 0; j < gpt149_visible(a, i); j++) {
                    s[j] = 0;
                    for (int x = 0; x < a->head_dim; x++)
                        s[j] += gpt149_q(a, b, h, i)[x] * gpt149_k(a, b, h, j)[x];
                    m = std::fmax(m, s[j] *= a->scale);
                }
                for (int j = 0; j < gpt149_visible(a, i); j++) l += s[j] = std::exp(s[j] - m);
                for (int x = 0; x < a->head_dim; x++) {
                    out[x] = 0;
                    for (int j = 0; j < gpt149_visible(a, i); j++)
                        out[x] += s[j] / l * gpt149_v(a, b, h, j)[x];
                }
            }
    return nullptr;
}
GPT149_KERNEL({"old", "written for version 1", "n_kv", workspace_bytes, run})
"""


def drawn(seed: int) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """q, k and v, and the arguments of a call in which any variants meet."""
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    batch, n_kv_head, group = random.randint(1, 3), random.randint(1, 2), random.randint(1, 5)
    n_kv, d = random.randint(1, 90), random.randint(1, 70)
    if seed % 5 == 0:
        n_kv += random.choice((500, 1100))
    n_head, d_v = n_kv_head * group, random.choice((d, random.randint(1, 70)))
    causal = random.random() < 0.7
    n_q = random.choice((1, random.randint(1, n_kv if causal else 60)))
    asked: dict[str, Any] = {"causal": causal, "scale": 0.3}
    choices = {
        "window": random.randint(1, n_kv) if causal else 0,
        "softcap": random.choice((0.5, 4.0, 30.0)),
        "alibi_slopes": torch.rand(n_head, generator=generator),
        "sinks": 3 * torch.randn(n_head, generator=generator),
        "kv_begin": torch.randint(0, n_kv + 1, (batch,), generator=generator, dtype=torch.int32),
        "return_lse": True,
    }
    asked |= {name: value for name, value in choices.items() if random.random() < 0.5}
    kv_dtype = random.choice((torch.float32, torch.bfloat16))
    dtype = random.choice((torch.float32, kv_dtype))
    shapes = ((n_head, n_q, d), (n_kv_head, n_kv, d), (n_kv_head, n_kv, d_v))
    dtypes = (dtype, kv_dtype, kv_dtype)
    tensors = [
        torch.randn(batch, *shape, generator=generator).to(dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    return tensors, asked


def same(got: Any, want: tuple[torch.Tensor, torch.Tensor], half: bool) -> bool:
    out, lse = got if isinstance(got, tuple) else (got, None)
    tolerance = 2e-2 if half else 3e-5
    close = torch.allclose(out.float(), want[0].float(), atol=tolerance, rtol=tolerance)
    return close and (lse is None or torch.allclose(lse, want[1], atol=tolerance, rtol=tolerance))


@pytest.mark.parametrize("name", [*ALL, *SOME])
def test_what_is_claimed_is_right_and_the_rest_declined(name: str) -> None:
    kernel = resolve(name)
    asked_of_it = 0
    for seed in range(120):
        tensors, asked = drawn(seed)
        want = attention(*tensors, kernel="reference", **asked | {"return_lse": True})
        try:
            got = attention(*tensors, kernel=kernel, n_threads=1 + seed % 3, **asked)
        except KernelDeclined:
            assert name in SOME
            continue
        asked_of_it += 1
        half = tensors[1].dtype == torch.bfloat16
        assert same(got, want, half), (seed, asked.keys())
    assert asked_of_it == 120 if name in ALL else 3 < asked_of_it < 120


def test_reference_by_hand() -> None:
    """Two keys, one query: every variant written out."""
    q, k = torch.tensor([[[[2.0]]]]), torch.tensor([[[[1.0], [3.0]]]])
    v = torch.tensor([[[[10.0, 1.0], [20.0, 2.0]]]])
    s = torch.tensor([2.0, 6.0], dtype=torch.float64)
    s = 5 * (s / 5).tanh() + 0.5 * torch.tensor([-1.0, 0.0])  # softcap, then slope (j - p)
    e = torch.tensor([*s, 1.5], dtype=torch.float64).exp()  # the sink
    out, lse = attention(
        q, k, v, causal=True, scale=1.0, kernel="reference", softcap=5.0,
        alibi_slopes=torch.tensor([0.5]), sinks=torch.tensor([1.5]), return_lse=True,
    )  # fmt: skip
    want = (e[0] * v[0, 0, 0].double() + e[1] * v[0, 0, 1].double()) / e.sum()
    assert torch.allclose(out[0, 0, 0].double(), want)
    assert torch.allclose(lse.double(), e.sum().log())


@pytest.mark.parametrize(
    "name", ["naive", "blocked", "fused", "flash", "simd", "reference", "torch"]
)
@pytest.mark.parametrize("n_q", [1, 5, 40])
def test_a_query_that_sees_nothing_gives_zeros(name: str, n_q: int) -> None:
    q, k = torch.randn(2, 3, n_q, 8), torch.randn(2, 3, 40, 8)
    begin = torch.tensor([40, 38], dtype=torch.int32)
    out = attention(q, k, k, causal=True, kernel=name, kv_begin=begin)
    assert not out[0].any()
    assert out[1, :, -1].any()
    assert not out[1, :, : max(0, n_q - 2)].any()


def test_lse_of_nothing_is_minus_infinity_and_of_a_sink_the_sink() -> None:
    q, k = torch.randn(1, 2, 20, 8), torch.randn(1, 2, 20, 8)
    begin, sinks = torch.tensor([20], dtype=torch.int32), torch.tensor([0.5, -2.0])
    for name in ALL:
        _, lse = attention(q, k, k, causal=True, kernel=name, kv_begin=begin, return_lse=True)
        assert bool((lse == -torch.inf).all()), name
        _, lse = attention(
            q, k, k, causal=True, kernel=name, kv_begin=begin, sinks=sinks, return_lse=True
        )
        assert torch.allclose(lse, sinks[None, :, None].expand(1, 2, 20)), name


@pytest.mark.parametrize(
    ("asked", "flag"),
    [
        ({"window": 3}, "GPT149_WINDOW"),
        ({"softcap": 2.0}, "GPT149_SOFTCAP"),
        ({"alibi_slopes": torch.ones(2)}, "GPT149_ALIBI"),
        ({"sinks": torch.ones(2)}, "GPT149_SINKS"),
        ({"kv_begin": torch.zeros(1, dtype=torch.int32)}, "GPT149_KV_BEGIN"),
        ({"return_lse": True}, "GPT149_LSE"),
    ],
)
def test_a_kernel_of_version_1_is_not_asked_for_what_is_new(
    asked: dict[str, Any], flag: str, tmp_path: Path
) -> None:
    file = tmp_path / "old.cpp"
    file.write_text(OLD)
    q, v = torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 8)
    plain = attention(q, q, q, causal=True, kernel=file)
    assert torch.allclose(plain, attention(q, q, q, causal=True, kernel="reference"), atol=1e-5)
    with pytest.raises(KernelDeclined, match=f"does not claim.*{flag}"):
        attention(q, q, q, causal=True, kernel=file, **asked)
    with pytest.raises(KernelDeclined, match="GPT149_HEAD_DIM_V"):
        attention(q, q, v, causal=True, kernel=file)
    half = q.to(torch.bfloat16)
    with pytest.raises(KernelDeclined, match=r"bfloat16.*GPT149_KV_BFLOAT16"):
        attention(q, half, half, causal=True, kernel=file)


def test_a_function_claims_by_its_parameters(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from gpt149 import attention as right\n"
        "def attention(q, k, v, *, causal, scale, window=0):\n"
        "    return right(q, k, v, causal=causal, scale=scale, window=window, kernel='naive')\n"
    )
    q = torch.randn(1, 2, 20, 8)
    got = attention(q, q, q, causal=True, kernel=file, window=5)
    want = attention(q, q, q, causal=True, kernel="reference", window=5)
    assert torch.allclose(got, want, atol=1e-5)
    with pytest.raises(KernelDeclined, match="GPT149_SOFTCAP"):
        attention(q, q, q, causal=True, kernel=file, softcap=5.0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"window": 3}, "window is 3, and must be 0, or from 1 on in a causal call"),
        ({"window": -1, "causal": True}, "window is -1"),
        ({"softcap": -2.0}, "softcap is -2.0"),
        ({"softcap": float("nan")}, "softcap is nan"),
        ({"sinks": torch.ones(3)}, r"sinks must be torch.float32 \(2,\)"),
        ({"alibi_slopes": torch.ones(2).double()}, "alibi_slopes must be torch.float32"),
        ({"kv_begin": torch.tensor([10], dtype=torch.int32)}, "from 0 to n_kv = 9"),
        ({"kv_begin": torch.tensor([3])}, "kv_begin must be torch.int32"),
    ],
)
def test_variants_that_do_not_fit(asked: dict[str, Any], message: str) -> None:
    q = torch.randn(1, 2, 9, 16)
    with pytest.raises(InputError, match=message):
        attention(q, q, q, **asked)
