"""The bound of `check`: room for what float32 rounding does to a value, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt149.check import judge as judging
from gpt149.check.cases import Case, quick, square
from gpt149.check.judge import EPS, EXACT, SLACK, SMALLEST, Expected, Verdict, expect, judge
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.registry import BUILTINS
from gpt149.system.paths import shipped

QUICK = {case.name: case for case in quick()}


def by_definition(case: Case) -> Expected:
    """`expect`, key by key; a sink is one more key, of value 0."""
    q, k, v = (t.astype(np.float64) for t in case.draw())
    vectors = case.vectors()
    rows = q.shape[:3]
    shapes = (*rows, case.width), (*rows, case.width), (*rows, 1), rows, rows
    want, rounding, common, lse, lse_rounding = (np.empty(shape) for shape in shapes)
    half = case.half_kv * 2**-8 / SLACK
    for b, h, i in np.ndindex(rows):
        own = case.n_kv - case.n_q + i
        end = own + 1 if case.causal else case.n_kv
        begin = max(
            own - case.window + 1 if case.window else 0,
            int(vectors["kv_begin"][b]) if case.kv_begin else 0,
        )
        j = np.arange(begin, end)
        keys, values = (t[b, h * case.n_kv_head // case.n_head][j] for t in (k, v))
        s = case.scale_value * keys @ q[b, h, i]
        w = case.scale_value * np.abs(keys * q[b, h, i]).sum(1) + np.abs(s)
        of_q = w
        if case.softcap:
            of_q = w * (1 - np.tanh(s / case.softcap) ** 2)
            s = case.softcap * np.tanh(s / case.softcap)
            w = of_q + np.abs(s)
        if case.alibi:
            slope = float(vectors["alibi_slopes"][h])
            s = s + slope * (j - own)
            w = w + slope * case.n_kv + np.abs(s)
        if case.sinks:
            sink = float(vectors["sinks"][h])
            w = w + (max(0, sink - s.max()) if len(s) else 0)
            s, w, of_q = np.append(s, sink), np.append(w, 0), np.append(of_q, 0)
            values = np.concatenate((values, np.zeros((1, case.width))))
        at = b, h, i
        if len(s) == case.sinks:  # no key
            weight = case.sinks * (EPS + half)
            want[at], rounding[at], common[at] = 0, EXACT, weight
            lse[at] = s[0] if case.sinks else -np.inf
            lse_rounding[at] = EPS * (1 + 2 * abs(lse[at])) + weight if case.sinks else EXACT
            continue
        m = s.max()
        p = np.exp(s - m) / np.exp(s - m).sum()
        o = p @ values
        w = EPS * (w + 1) + half * (of_q + 1)
        walk = EPS * (p > EPS).sum() ** 0.5
        terms = p * w @ np.abs(values - o) + (EPS + half) * p @ np.abs(values)
        want[at], common[at] = o, p @ w
        rounding[at] = terms + walk * np.abs(o) + case.half * 2**-8 / SLACK * np.abs(o)
        lse[at] = m + np.log(np.exp(s - m).sum())
        lse_rounding[at] = p @ w + walk + EPS * (abs(m) + abs(lse[at]))
    return Expected(want, rounding, common, lse, lse_rounding)


VARIED = [case.name for case in quick() if case.name.endswith(("-chunk", "-full", "+alibi"))]


@pytest.mark.parametrize(
    "name",
    ["n33", "chunk", "fewer-queries", "grouped", "large-logits", "bfloat16-cache", *VARIED,
     "softcap-saturates", "sinks-falling", "everything-prefill", "window+sinks-prefill"],
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 200, 1 << 20])
def test_the_bound_is_the_formula(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "BLOCK", block)
    monkeypatch.setattr(judging, "CHUNK", block)
    case = QUICK[name]
    got, want = expect(case, *case.draw()), by_definition(case)
    np.testing.assert_allclose(got.want, want.want, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got.rounding, want.rounding, rtol=1e-4, atol=1e-32)
    np.testing.assert_allclose(got.common, want.common, rtol=1e-12)
    np.testing.assert_allclose(got.lse, want.lse, rtol=1e-12)
    np.testing.assert_allclose(got.lse_rounding, want.lse_rounding, rtol=1e-12)


def nearly_right(folder: Path, right: str, wrong: str) -> str:
    """A copy of naive that computes something else in one place."""
    naive = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    assert right in naive
    file = folder / "nearly_right.cpp"
    file.write_text(naive.replace(right, wrong))
    return str(file)


def verdicts(spec: str, name: str) -> list[Verdict]:
    """Of three seeds."""
    attend, found = Attention(spec), []
    for seed in range(3):
        case = replace(QUICK[name], seed=seed)
        inputs = case.draw()
        q, k, v = (torch.from_numpy(t) for t in inputs)
        out = attend(q, k, v, causal=case.causal, scale=case.scale_value)
        found.append(judge(out.numpy(), expect(case, *inputs)))
    return found


@pytest.mark.parametrize("name", ["padded", "n31", "batches", "n1000"])
def test_scores_too_large_by_a_hundred_thousandth_are_wrong(name: str, tmp_path: Path) -> None:
    spec = nearly_right(tmp_path, "j, dot)", "j, 1.00001f * dot)")
    assert [v.passed for v in verdicts(spec, name)] == [False] * 3
    assert [v.passed for v in verdicts("naive", name)] == [True] * 3


def test_an_exp_that_never_falls_below_2e_9_is_wrong(tmp_path: Path) -> None:
    """large-logits: scores hundreds apart, so that most keys have no weight at all."""
    clamped = "std::exp(std::fmax(s[j] - m, -20.0f))"
    spec = nearly_right(tmp_path, "std::exp(s[j] - m)", clamped)
    assert [v.passed for v in verdicts(spec, "large-logits")] == [False] * 3
    assert [v.passed for v in verdicts("naive", "large-logits")] == [True] * 3


@pytest.mark.parametrize("kernel", BUILTINS)
def test_a_long_sum_of_positive_values_is_right(kernel: str) -> None:
    """16,384 additions: without the random walk, a sum in order would be 30 roundings off."""
    case = replace(square("positive", 16384, n_head=1, d=64), n_q=3)
    q, k, v = case.draw()
    v = np.abs(v)
    tensors = (torch.from_numpy(t) for t in (q, k, v))
    out = Attention(kernel)(*tensors, causal=True, scale=case.scale_value).numpy()
    assert judge(out, expect(case, q, k, v)).passed


def test_a_factor_of_a_row_has_a_bound_of_its_own() -> None:
    case = QUICK["large-logits"]
    expected = expect(case, *case.draw())

    def scaled(by: float) -> Verdict:
        out = expected.want * (1 + by * expected.common)
        return judge(out.astype(np.float32), expected)

    assert scaled(0.9 * SLACK).passed
    wrong = scaled(3 * SLACK).wrong
    assert wrong.any(-1).mean() > 0.9
    # In only half of a row it is no factor that the row shares.
    halves = expected.want * (1 + 0.9 * SLACK * expected.common * (np.arange(32) % 2))
    assert not judge(halves.astype(np.float32), expected).passed


def test_what_underflows_may_be_zero() -> None:
    case = QUICK["n33"]
    q, k, v = case.draw()
    tiny = expect(case, q, k, v * np.float32(1e-39))
    assert (tiny.rounding > 0).all()
    assert judge(np.zeros(q.shape, np.float32), tiny).passed
    assert not judge(np.full(q.shape, 400 * SMALLEST * SLACK, np.float32), tiny).passed


def test_nan_and_infinity_are_wrong_where_they_are() -> None:
    case = QUICK["n33"]
    expected = expect(case, *case.draw())
    out = expected.want.astype(np.float32)
    out[0, 1, 7, 3] = np.nan
    out[0, 0, 2, 1] = np.inf
    verdict = judge(out, expected)
    assert np.argwhere(verdict.wrong).tolist() == [[0, 0, 2, 1], [0, 1, 7, 3]]
    assert np.isnan(verdict.ratio)
    assert np.isnan(verdict.error)


def test_what_is_cut_off_to_bfloat16_is_wrong_though_it_is_near() -> None:
    case = Case("half", 1, 2, 2, 40, 40, 16, half=True)
    expected = expect(case, *case.draw())
    bits = expected.want.astype(np.float32).view(np.uint32)
    cut, rounded = ((b & 0xFFFF0000).view(np.float32) for b in (bits, bits + np.uint32(0x8000)))
    assert judge(rounded, expected).passed
    assert not judge(cut, expected).passed
    names = ("want", "rounding", "common", "lse", "lse_rounding")
    first = replace(expected, **{name: getattr(expected, name)[:, :, :1] for name in names})
    assert judge(cut[:, :, :1], first).passed  # of few values, all may be too small by chance
