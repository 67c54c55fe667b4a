"""The README's kernel is right, and its length is as promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from gpt149.kernels.dispatch import attention

README = Path(__file__).parents[2] / "README.md"


def test_the_kernel_in_24_lines(tmp_path: Path) -> None:
    source = re.search(r"```cpp\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert source is not None
    code = [line for line in source[1].splitlines() if line]
    assert len(code) == 24
    file = tmp_path / "mine.cpp"
    file.write_text(source[1])
    g = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 37, 32, generator=g)
    for causal in (True, False):
        got = attention(q[:, :, 5:], k, v, causal=causal, kernel=str(file))
        want = attention(q[:, :, 5:], k, v, causal=causal, kernel="reference")
        torch.testing.assert_close(got, want)


def test_the_python_of_the_readme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    program = next(code for kind, code in blocks if kind == "python")
    (tmp_path / "mine.cpp").write_text(next(code for kind, code in blocks if kind == "cpp"))
    monkeypatch.chdir(tmp_path)
    q, k, v = torch.randn(3, 1, 2, 9, 16)
    names = {"q": q, "k": k, "v": v}
    exec(program, names)
    torch.testing.assert_close(names["out"], attention(q, k, v, causal=True, kernel="reference"))


def test_names_of_the_package_stay_what_they_are() -> None:
    import gpt149

    for _ in range(2):
        assert {callable(getattr(gpt149, name)) for name in gpt149.__all__ if name.islower()} == {
            True
        }
        gpt149.load("random:tiny")
