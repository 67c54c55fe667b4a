"""Kernels written in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpt149.check.cases import quick
from gpt149.check.run import check
from gpt149.errors import BuildError, InputError, KernelRaised
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.registry import resolve

SDPA = '''
import torch.nn.functional as F

def attention(q, k, v, *, causal, scale):
    """torch's own."""
    n_q, n_kv = q.shape[2], k.shape[2]
    mask = q.new_ones(n_q, n_kv).bool().tril(n_kv - n_q) if causal else None
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=True)

def first(q, k, v, *, causal, scale):
    return v[:, :, :1].expand(q.shape).contiguous()

def raises(q, k, v, *, causal, scale):
    return q + "one"

def half(q, k, v, *, causal, scale):
    return q.half()

def short(q, k, v, *, causal, scale):
    return q[:, :, 1:]

def nothing(q, k, v, *, causal, scale):
    print("nothing")

constant = 1
'''
CASES = [case for case in quick() if case.name in ("n17", "n33", "decode", "grouped", "padded")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SDPA)
    return path


def test_a_function_is_a_kernel(file: Path) -> None:
    kernel = resolve(str(file))
    assert (kernel.name, kernel.idea, kernel.isa) == ("mine", "torch's own.", "python")
    q, k, v = torch.randn(3, 1, 2, 7, 8)
    got = Attention(kernel)(q, k, v, causal=True)
    torch.testing.assert_close(got, Attention("reference")(q, k, v, causal=True))
    assert resolve(f"{file}:first").name == "first"


def test_check_judges_functions(file: Path) -> None:
    assert check(str(file), CASES).right
    wrong = check(f"{file}:first", CASES)
    assert not wrong.right
    raised = check(f"{file}:raises", CASES)
    assert raised.findings[0].cause == "raised"
    assert "TypeError at mine.py:14: " in raised.findings[0].sentence
    nothing = check(f"{file}:nothing", CASES)
    assert "returned NoneType, not a tensor" in nothing.findings[0].sentence
    assert "nothing" in nothing.noise


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", r"raised TypeError at mine\.py:14"),
        ("half", r"returned torch\.float16 \(1, 2, 7, 8\), and must return torch\.float32"),
        ("short", r"returned torch\.float32 \(1, 2, 6, 8\), and must return .* \(1, 2, 7, 8\)"),
        ("nothing", r"returned NoneType, not a tensor"),
    ],
)
def test_what_a_function_does_wrong_is_one_sentence(file: Path, name: str, said: str) -> None:
    q, k, v = torch.randn(3, 1, 2, 7, 8)
    with pytest.raises(KernelRaised, match=said):
        Attention(resolve(f"{file}:{name}"))(q, k, v, causal=True)


def test_files_that_are_no_kernels(tmp_path: Path, file: Path) -> None:
    for name in ("missing", "constant"):
        with pytest.raises(InputError, match=rf"has no function '{name}'"):
            resolve(f"{file}:{name}")
    broken = tmp_path / "broken.py"
    broken.write_text("x = 1\ndef attention(:\n")
    with pytest.raises(BuildError, match=r"cannot be loaded: SyntaxError at broken\.py:2"):
        resolve(str(broken))
    broken.write_text("\n1 / 0\n")
    with pytest.raises(BuildError, match=r"ZeroDivisionError at broken\.py:2"):
        resolve(str(broken))
    with pytest.raises(BuildError, match="ZeroDivisionError"):
        check(str(broken), CASES)
    broken.write_text("raise SystemExit(0)\n")
    with pytest.raises(BuildError, match=r"SystemExit at broken\.py:1"):
        resolve(str(broken))
