"""A name or a file becomes a kernel, or a sentence that helps."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import gpt149
from gpt149.cli import main
from gpt149.errors import BuildError, InputError, KernelDeclined
from gpt149.kernels.dispatch import Attention, attention
from gpt149.kernels.registry import BUILTINS, CONTRACT_BUILTINS, DEFAULT, is_file_spec, resolve
from gpt149.system.paths import shipped

FLASH = (shipped("csrc") / "kernels" / "flash.cpp").read_text()
DECLINES = """
#include "gpt149.h"
static int64_t none(const gpt149_args *) { return 0; }
static const char *declines(const gpt149_args *) { return "it only does Tuesdays"; }
static const char *zeros(const gpt149_args *a) {
    for (int i = 0; i < a->n_q; i++)
        for (int x = 0; x < a->head_dim; x++)
            gpt149_out(a, 0, 0, i)[x] = 0;
    return nullptr;
}
GPT149_KERNEL({"picky", "declines", "1", none, declines}, {"zeros", "zeros", "1", none, zeros})
"""


@pytest.mark.parametrize("name", BUILTINS)
def test_builtin_kernels_describe_themselves(name: str) -> None:
    kernel = resolve(name)
    assert kernel.name == name
    assert kernel.idea
    assert kernel.isa
    assert kernel.memory


@pytest.mark.parametrize("name", CONTRACT_BUILTINS)
def test_sources_are_named_after_their_kernel_and_need_no_torch(name: str) -> None:
    text = (shipped("csrc") / "kernels" / f"{name}.cpp").read_text()
    assert text.startswith(f"// {name}: ")
    assert "torch" not in text


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'flsh'\. Did you mean 'flash'\? Built in: naive, "):
        resolve("flsh")


@pytest.mark.parametrize(
    ("spec", "is_file"),
    [
        ("flash", False),
        ("./mine.cpp", True),
        ("mine.cpp", True),
        ("mine.cpp:fast", True),
        ("dir/mine", True),
        ("mine.txt", True),
    ],
)
def test_file_or_name(spec: str, is_file: bool) -> None:
    assert is_file_spec(spec) is is_file


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no kernel file .*none\.cpp"):
        resolve(str(tmp_path / "none.cpp"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"must end in \.cpp"):
        resolve(str(tmp_path / "notes.txt"))


def test_one_of_several_kernels_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "two.cpp"
    file.write_text(DECLINES)
    assert resolve(f"{file}:zeros").name == "zeros"
    with pytest.raises(InputError, match=r"holds 2 kernels\. Choose one .*picky, zeros"):
        resolve(str(file))
    with pytest.raises(InputError, match=r"no kernel 'zeroes'\. Did you mean 'zeros'"):
        resolve(f"{file}:zeroes")


def test_a_kernel_that_declines_says_why(tmp_path: Path) -> None:
    file = tmp_path / "two.cpp"
    file.write_text(DECLINES)
    q = torch.zeros(1, 1, 5, 8)
    with pytest.raises(KernelDeclined, match=r"it only does Tuesdays\. .*n_q=5"):
        attention(q, q, q, kernel=f"{file}:picky")


def test_a_file_without_a_table(tmp_path: Path) -> None:
    file = tmp_path / "plain.cpp"
    file.write_text("int f() { return 1; }\n")
    with pytest.raises(BuildError, match=r"exports no table.*GPT149_KERNEL"):
        resolve(str(file))


def test_another_abi_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.cpp"
    redefined = "#undef GPT149_ABI_VERSION\n#define GPT149_ABI_VERSION 7\n"
    file.write_text(FLASH.replace("GPT149_KERNEL(", redefined + "GPT149_KERNEL("))
    with pytest.raises(BuildError, match=r"version 7 of gpt149\.h, this is version 3"):
        resolve(str(file))


def test_a_library_that_does_not_load(tmp_path: Path) -> None:
    file = tmp_path / "unlinked.cpp"
    file.write_text("extern int nowhere();\nint f() { return nowhere(); }\n" + FLASH)
    with pytest.raises(BuildError, match=r"does not load.*nowhere"):
        resolve(str(file))


Q = torch.zeros(1, 4, 3, 8)


@pytest.mark.parametrize(
    ("q", "k", "v", "causal", "message"),
    [
        (Q[0], Q, Q, False, "four dimensions"),
        (Q.double(), Q, Q, False, "on the CPU, not torch.float64"),
        (Q, Q, Q[:, :, :2], False, "k and v must agree in all but the length of their rows"),
        (Q, Q[..., :4], Q[..., :4], False, "agree in batch and head_dim"),
        (Q, Q[:, :3], Q[:, :3], False, "must divide"),
        (Q, Q[:, :, :2], Q[:, :, :2], True, "n_q <= n_kv"),
        (Q, Q[:, :, :0], Q[:, :, :0], False, "from 1 to"),
    ],
)
def test_shapes_that_are_no_attention_call(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        attention(q, k, v, causal=causal)
    assert str(tuple(q.shape)) in str(caught.value)


def test_negative_tiles_and_no_threads() -> None:
    with pytest.raises(InputError, match="br=-1"):
        Attention("flash", br=-1)
    with pytest.raises(InputError, match="threads is 0"):
        Attention("flash", n_threads=0)


def test_too_much_workspace_is_one_sentence() -> None:
    q = torch.zeros(1, 1, 1, 1).expand(1, 1, 2**22, 1)
    with pytest.raises(InputError, match=r"wants 70,368,744,177,676 bytes"):
        attention(q, q, q, kernel="naive")


@pytest.mark.parametrize(
    "row", ['{nullptr, "b", "c", none, zeros}', '{"a", "b", "c", none, nullptr}']
)
def test_an_empty_field_of_the_table_is_refused(tmp_path: Path, row: str) -> None:
    file = tmp_path / "empty.cpp"
    file.write_text(DECLINES.partition("GPT149_KERNEL")[0] + f"GPT149_KERNEL({row})\n")
    with pytest.raises(BuildError, match="leaves a field empty"):
        resolve(str(file))


def test_two_kernels_of_one_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "twins.cpp"
    file.write_text(DECLINES.replace('"picky"', '"zeros"'))
    with pytest.raises(BuildError, match="same name"):
        resolve(str(file))


def test_a_colon_in_a_path(tmp_path: Path) -> None:
    file = tmp_path / "a b:c.cpp"
    file.write_text(DECLINES)
    assert resolve(f"{file}:zeros").name == "zeros"
    assert resolve(f"{file.rename(tmp_path / 'one:x.cpp')}:zeros").name == "zeros"


def test_torch_defaults_do_not_reach_the_kernel() -> None:
    q = torch.randn(1, 2, 9, 16)
    want = attention(q, q, q, causal=True, kernel="reference")
    torch.set_default_dtype(torch.float64)
    try:
        got = attention(q, q, q, causal=True, kernel="flash")
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(got, want)


def test_the_command_line_has_the_same_default() -> None:
    option = next(p for p in main.commands["generate"].params if p.name == "attention")
    assert option.default == DEFAULT


def test_a_cache_of_bfloat16_reaches_those_who_read_it() -> None:
    q, k = torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 16).bfloat16()
    want = attention(q, k.float(), k.float(), causal=True, kernel="reference")
    for kernel in ("simd", "flash", "torch"):
        got = attention(q, k, k, causal=True, kernel=kernel)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    with pytest.raises(KernelDeclined, match="keys and values in bfloat16"):
        attention(q, k, k, causal=True, kernel="fused")


def test_what_was_prepared_for_one_shape_is_not_used_for_another() -> None:
    attend = Attention("simd")
    for n_q, n_kv, scale in ((9, 9, None), (9, 9, 0.5), (1, 9, None), (9, 9, None)):
        q, k = torch.randn(1, 2, n_q, 16), torch.randn(1, 2, n_kv, 16)
        want = Attention("reference")(q, k, k, causal=True, scale=scale)
        got = attend(q, k, k, causal=True, scale=scale)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_threads_may_share_a_kernel() -> None:
    """Calls of two shapes at once, each in need of its own struct and workspace."""
    attend = Attention("naive", n_threads=1)
    inputs = [torch.randn(1, 2, n, 16) for n in (23, 40)]
    want = [attend(q, q, q, causal=True) for q in inputs]

    def wrong(which: int) -> int:
        q = inputs[which]
        outs = (attend(q, q, q, causal=True) for _ in range(800))
        return sum(not torch.equal(out, want[which]) for out in outs)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrong, (0, 1))) == [0, 0]


def test_a_file_does_not_hide_a_shipped_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("simd").write_text("")
    assert not is_file_spec("simd")
    assert resolve("simd").name == "simd"


def test_attention_takes_paths_and_torch_tensors(tmp_path: Path) -> None:
    file = tmp_path / "two.cpp"
    file.write_text(FLASH)
    q = torch.randn(1, 1, 5, 8)
    assert torch.equal(attention(q, q, q, kernel=file), attention(q, q, q, kernel="flash"))
    with pytest.raises(InputError, match="must be torch tensors, not ndarray"):
        attention(q.numpy(), q, q)  # type: ignore[call-overload]


def test_the_packages_names_are_listed() -> None:
    assert set(gpt149.__all__) <= set(dir(gpt149))
