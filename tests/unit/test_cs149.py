"""A module.cpp of cs149gpt, unmodified, is a kernel like any other."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cs149.mistakes import MODULE

from gpt149.errors import BuildError, InputError, MissingDependency
from gpt149.kernels.compiler import find_compiler
from gpt149.kernels.dispatch import Attention
from gpt149.kernels.loaders import cs149
from gpt149.kernels.registry import locate, resolve

PARTS = ("naive", "blocked", "fused", "flash")
SHAPES = [
    # batch, n_head, n_kv_head, n_q, n_kv, head_dim, causal
    (2, 4, 2, 19, 37, 32, True),
    (1, 3, 3, 33, 33, 16, False),
    (1, 2, 1, 50, 21, 8, False),
    (1, 2, 1, 5, 21, 8, False),
    (1, 2, 2, 1, 40, 8, True),
]
MINIMAL = """
#include <torch/extension.h>
{more}
torch::Tensor myNaiveAttention(const torch::Tensor &Q, torch::Tensor &K, torch::Tensor V,
                               torch::Tensor QK_t, int B, long H, const int &N, int d) {{
    {body}
}}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{
    m.doc() = "a module";
    m.def("myNaiveAttention", &myNaiveAttention, "Naive", py::arg("Q"), py::arg("K"));
}}
"""


def module(folder: Path, body: str = "return V;", more: str = "") -> Path:
    file = folder / "module.cpp"
    file.write_text(MINIMAL.format(body=body, more=more))
    return file


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_call_is_exact(part: str, shape: tuple[int, ...]) -> None:
    batch, n_head, n_kv_head, n_q, n_kv, d, causal = shape
    g = torch.Generator().manual_seed(1)
    q = torch.randn(batch, n_head, n_q, d, generator=g)
    k, v = torch.randn(2, batch, n_kv_head, n_kv, d, generator=g)
    attend = Attention(resolve(f"{MODULE}:{part}"), n_threads=2)
    got = attend(q, k, v, causal=bool(causal), scale=0.3)
    want = Attention("reference")(q, k, v, causal=bool(causal), scale=0.3)
    torch.testing.assert_close(got, want)


def test_names_of_a_part() -> None:
    for number, (part, function) in enumerate(zip(PARTS, cs149.FUNCTIONS, strict=True), start=1):
        for name in (part, f"part{number}", function):
            source = locate(f"{MODULE}:{name}")
            assert (source.loader, source.name) == ("cs149", function)
    with pytest.raises(InputError, match=r"holds 4 kernels.*:NAME, NAME one of naive, part1"):
        resolve(str(MODULE))
    with pytest.raises(InputError, match=r"no kernel 'flsh'\. Did you mean 'flash'"):
        resolve(f"{MODULE}:flsh")


def test_parameters_of_other_types_and_stateful_bindings(tmp_path: Path) -> None:
    file = module(tmp_path)
    q = k = v = torch.randn(1, 1, 4, 8)
    out = Attention(resolve(f"{file}:naive"))(q, k, v, causal=False)
    torch.testing.assert_close(out, v)


def test_a_bound_lambda_and_a_contract_kernel_that_mentions_pybind(tmp_path: Path) -> None:
    file = module(tmp_path)
    four = "torch::Tensor, torch::Tensor, torch::Tensor v, torch::Tensor, int, int, int, int"
    function = f"[]({four}) {{ return v; }}"
    file.write_text(file.read_text().replace("&myNaiveAttention", function))
    q = k = v = torch.randn(1, 1, 4, 8)
    torch.testing.assert_close(Attention(resolve(f"{file}:naive"))(q, k, v, causal=False), v)
    file.write_text("// no PYBIND11_MODULE here\n")
    assert locate(str(file)).loader == "contract"


def test_temporaries_are_zeros_at_every_call_and_threads_are_as_asked(tmp_path: Path) -> None:
    body = """
    for (int i = 0; i < N * N; i++)
        if (QK_t.data_ptr<float>()[i] != 0) return torch::full({B, H, N, d}, -1);
    QK_t.fill_(7);
    return torch::full({B, H, N, d}, omp_get_max_threads());"""
    kernel = resolve(f"{module(tmp_path, body)}:part1")
    q = k = v = torch.randn(1, 2, 5, 8)
    before = torch.get_num_threads()
    for n_threads in (3, 1):
        out = Attention(kernel, n_threads=n_threads)(q, k, v, causal=True)
        assert set(out.flatten().tolist()) == {n_threads}
    assert torch.get_num_threads() == before


def test_a_compile_error_of_the_authors_own_is_told_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = module(tmp_path, "return no_such_name;")
    with caplog.at_level(logging.INFO), pytest.raises(BuildError) as caught:
        resolve(f"{file}:part1")
    assert re.search(rf"{file} does not compile\.\n\$ .*\n(.*\n)*.*no_such_name", str(caught.value))
    assert "torch's own" not in caplog.text


def test_what_the_standin_lacks_is_compiled_against_torch_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = "return torch::matmul(torch::softmax(torch::matmul(Q, K.transpose(-2, -1)), -1), V);"
    file = module(tmp_path, body)
    q, k, v = torch.randn(3, 1, 2, 9, 16)
    with caplog.at_level(logging.INFO):
        got = Attention(resolve(f"{file}:part1"))(q, k, v, causal=True)
    assert "uses more of torch than gpt149's stand-in headers have" in caplog.text
    torch.testing.assert_close(got, Attention("reference")(q, k, v, causal=True))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        resolve(f"{file}:part1")
    assert caplog.text == ""  # cached: neither is tried again


def test_ispc_is_asked_for_where_a_module_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = '#include "module_ispc.h"\nusing namespace ispc;'
    file = module(tmp_path, "return torch::full({B, H, N, d}, twice(21));", more)
    monkeypatch.setattr("shutil.which", without_ispc(shutil.which))
    lacking = r"(?s)ispc is not on the PATH\. Install it.*'twice' was not declared"
    with pytest.raises(MissingDependency, match=lacking):
        locate_and_compile(file)
    monkeypatch.undo()
    # A stand-in for ispc itself: writes the header, and compiles the file as C++.
    fake = tmp_path / "bin" / "ispc"
    fake.parent.mkdir()
    compiler = find_compiler()[0]
    fake.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 0 ]; do case "$1" in -h) h=$2; shift;; -o) o=$2; shift;; *.ispc) s=$1;; '
        "esac; shift; done\n"
        'echo "namespace ispc { float twice(float); }" > "$h"\n'
        f'{compiler} -x c++ -fPIC -c "$s" -o "$o"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    with pytest.raises(MissingDependency, match=r"there is no .*module\.ispc"):
        locate_and_compile(file)
    (tmp_path / "module.ispc").write_text("namespace ispc { float twice(float x) { return 2*x; } }")
    q = k = v = torch.randn(1, 1, 2, 4)
    out = Attention(resolve(f"{file}:part1"))(q, k, v, causal=False)
    assert set(out.flatten().tolist()) == {42}
    (tmp_path / "module.ispc").write_text("no such thing")
    with pytest.raises(BuildError, match=r"module\.ispc does not compile"):
        locate_and_compile(file)
    monkeypatch.setenv("GPT149_CACHE", str(file))  # which is no folder
    with pytest.raises(InputError, match=r"cannot write .*GPT149_CACHE"):
        locate_and_compile(file)


def test_two_builds_of_ispc_at_once_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = module(tmp_path, more='#include "module_ispc.h"')
    file.with_suffix(".ispc").touch()
    fake = tmp_path / "bin" / "ispc"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] || {{ echo >> {tmp_path}/runs; sleep 0.3; }}\n'
        'while [ $# -gt 0 ]; do case "$1" in -h|-o) : > "$2"; shift;; esac; shift; done\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")
    monkeypatch.setenv("GPT149_CACHE", str(tmp_path / "cache"))
    program = (
        "import pathlib, sys; from gpt149.kernels.loaders import cs149; "
        "print(cs149.target(pathlib.Path(sys.argv[1])).libraries)"
    )
    command = [sys.executable, "-c", program, str(file)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert said[0] == said[1]
    assert "module_ispc.o" in said[0]
    assert len((tmp_path / "runs").read_text()) == 1


@pytest.mark.skipif(not shutil.which("ispc"), reason="there is no ispc on the PATH")
def test_ispc_itself_makes_what_a_module_uses(tmp_path: Path) -> None:
    more = '#include "module_ispc.h"\nusing namespace ispc;'
    body = "twice(V.data_ptr<float>(), B * H * N * d); return V.clone();"
    file = module(tmp_path, body, more)
    file.with_suffix(".ispc").write_text(
        "export void twice(uniform float x[], uniform int n) {\n"
        "    foreach (i = 0 ... n) x[i] *= 2;\n"
        "}\n"
    )
    q = k = v = torch.randn(1, 1, 2, 4)
    out = Attention(resolve(f"{file}:part1"))(q, k, v, causal=False)
    torch.testing.assert_close(out, 2 * v)


def test_a_header_of_ispc_that_nobody_uses_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = '#include "attention_ispc.h"\nusing namespace ispc;'
    file = module(tmp_path, "return torch::full({B, H, N, d}, 7);", more)
    monkeypatch.setattr("shutil.which", without_ispc(shutil.which))
    q = k = v = torch.randn(1, 1, 2, 4)
    out = Attention(resolve(f"{file}:part1"))(q, k, v, causal=False)
    assert set(out.flatten().tolist()) == {7}
    file = module(tmp_path, "return torch::full({B, H, N, d}, 7)", more)
    with pytest.raises(BuildError, match="expected ';'"):  # which is nothing that ispc could mend
        locate_and_compile(file)


def without_ispc(which: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """shutil.which on a machine that has no ispc."""
    return lambda name: None if name == "ispc" else which(name)


def locate_and_compile(file: Path) -> None:
    resolve(f"{file}:part1")
