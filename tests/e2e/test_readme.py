"""The README's kernel is right, and its length is as promised."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from gpt149.attention import attention

README = Path(__file__).parents[2] / "README.md"


def test_the_kernel_in_25_lines(tmp_path: Path) -> None:
    source = re.search(r"```cpp\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert source is not None
    code = [line for line in source[1].splitlines() if line]
    assert len(code) == 25
    file = tmp_path / "mine.cpp"
    file.write_text(source[1])
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 37, 32, generator=g)
    for causal in (True, False):
        got = attention(q[:, :, 5:], k, v, causal=causal, kernel=str(file))
        want = attention(q[:, :, 5:], k, v, causal=causal, kernel="reference")
        torch.testing.assert_close(got, want)
