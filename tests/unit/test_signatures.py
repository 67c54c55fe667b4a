"""Functions of other signatures than the contract's: what is read from their text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpt149.errors import InputError, KernelRaised, SeveralKernels
from gpt149.kernels.dispatch import Attention, attention
from gpt149.kernels.loaders import c_functions, python_reading
from gpt149.kernels.registry import locate

TENSORS = "const float *Q, const float *K, const float *V, float *O"


@pytest.mark.parametrize(
    ("parameters", "axes", "roles", "words"),
    [
        (f"{TENSORS}, int B, int H, int N, int d", "bhnd", "q k v out batch n_head n head_dim",
         "without a mask, scale 1/sqrt(d), n_q = n_kv"),
        (f"{TENSORS}, int batch_size, int seq_len, int num_heads, int head_dim", "bnhd",
         "q k v out batch n n_head head_dim", "n_q = n_kv"),
        (f"{TENSORS}, int num_q_heads, int num_kv_heads, int seq_len, int head_dim", "hnd",
         "q k v out n_head n_kv_head n head_dim", "n_q = n_kv, grouped heads"),
        (f"{TENSORS}, int M, int N, int d", "nd", "q k v out n_q n_kv head_dim",
         "any n_q and n_kv"),
        ("int T, int dk, float scale, bool causal, float out[], const float q[], float const *k, "
         "float *__restrict v", "nd", "n head_dim scale causal out q k v",
         "causal if told, scale as told, n_q = n_kv"),
        (f"{TENSORS}, int M, int d, int Br, int Bc", "nd", "q k v out n head_dim br bc",
         "n_q = n_kv"),
        (f"{TENSORS}, float *lse, int L, size_t D, int num_threads", "nd",
         "q k v out lse n head_dim n_threads", "n_q = n_kv"),
    ],
)  # fmt: skip
def test_parameters_of_c_are_known_by_their_names(
    parameters: str, axes: str, roles: str, words: str
) -> None:
    read = c_functions.read(f"void f({parameters}) {{ }}", "f.c")
    assert read is not None
    assert (read.axes, " ".join(read.roles)) == (axes, roles)
    assert words in read.words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"void f({TENSORS}, int N, int d, int stride) {{", "does not know what int stride is"),
        (f"void f({TENSORS.replace('float', 'double')}, int N, int d) {{", r"const double \*Q"),
        ("void f(const vector<float> &Q, float *K, float *V, float *O, int N, int d) {", "&Q is"),
        ("void f(float *Q, float *K, float *V, int N, int d) {", "needs q, k, v, out"),
        (f"static void f({TENSORS}, int N, int d) {{", "is static"),
        (f"// gpt149: axes=bhnd\nvoid f({TENSORS}, int N, int d) {{", r"sizes of \(n, d\)"),
        (f"// gpt149: any-lengths\nvoid f({TENSORS}, int N, int d) {{", "n_q = n_kv"),
        (f"// gpt149: casual\nvoid f({TENSORS}, int N, int d) {{", "'gpt149: casual'.*nothing"),
        (f"/* gpt149: scale=2 */\nvoid f({TENSORS}, int N, int d, float scale) {{", "a parameter"),
    ],
)
def test_what_cannot_be_called_is_told(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        c_functions.read(text + "}", "f.c")


def test_the_function_that_calls_the_others_is_meant() -> None:
    head = f"void head({TENSORS}, int N, int d) {{}}"
    whole = f"void whole({TENSORS}, int B, int H, int N, int d) {{ head(Q, K, V, O, N, d); }}"
    for wanted, function in (("", "whole"), ("head", "head")):
        read = c_functions.read(head + whole, "f.c", wanted)
        assert read is not None
        assert read.function == function
    with pytest.raises(InputError, match="no attention function 'tail'"):
        c_functions.read(head + whole, "f.c", "tail")
    with pytest.raises(SeveralKernels, match=r"head, whole. Choose one with f\.c:NAME"):
        c_functions.read(head + whole.replace("head(", "other("), "f.c")
    assert c_functions.read(head + "GPT149_KERNEL({})", "f.c") is None
    assert c_functions.read("int main(void) { }", "f.c") is None


CLASS = """
import torch
class {0}(torch.autograd.Function):
    def forward(ctx, {1}): pass
"""


@pytest.mark.parametrize(
    ("text", "wanted", "kind", "roles"),
    [
        ("def attention(Q, K, V, mask=None): pass", "", "function", "q k v"),
        ("def attention(q, k, v, dropout=0, *, is_causal): pass", "", "function", "q k v  causal"),
        ("def custom_kernel(data):\n    q, k, v, out = data", "", "data", "q k v out"),
        ("def custom_kernel(data): pass", "", "data", "q k v"),
        (CLASS.format("F", "Q, K, V, tile=16, is_causal=False"), "", "autograd", "q k v  causal"),
        ("def mine(query, key, value): pass", "mine", "function", "q k v"),
        ("def softmax(x): pass\ndef sdpa(query, key, value): pass", "", "function", "q k v"),
    ],
)
def test_parameters_of_python_are_known_by_their_names(
    text: str, wanted: str, kind: str, roles: str
) -> None:
    read = python_reading.read(text, "f.py", wanted)
    assert read is not None
    assert (read.kind, " ".join(read.roles).rstrip()) == (kind, roles)
    assert read.in_numpy == ("torch" not in text)


def test_kernels_of_ours_in_python_are_not_read_as_others() -> None:
    assert python_reading.read("def attention(q, k, v, *, causal, scale): pass", "f.py") is None
    assert python_reading.read("attention = 3", "f.py") is None
    assert python_reading.read("def (", "f.py") is None
    helpers = "def one(q, k, v): pass\ndef two(q, k, v): pass\n"
    assert python_reading.read(helpers + "gpt149_kernels = [one]", "f.py") is None
    with pytest.raises(InputError, match="takes 'bias'"):
        python_reading.read("def attention(q, k, v, bias): pass", "f.py")
    with pytest.raises(InputError, match="has no q, k and v"):
        python_reading.read("def attention(x, w): pass", "f.py")
    with pytest.raises(InputError, match="Mha is a class"):
        python_reading.read("class Mha: pass", "f.py", "Mha")
    two = CLASS.format("A", "q, k, v") + CLASS.format("B", "q, k, v")
    with pytest.raises(SeveralKernels, match=r"A, B. Choose one with f\.py:NAME"):
        python_reading.read(two, "f.py")


NUMPY = """# gpt149: {said}
import numpy as np

def attention({parameters}):
    n, d = {n}, q.shape[-1]
    q, k, v = (np.moveaxis(t, {token}, -2) for t in (q, k, v))
    s = q @ np.swapaxes(k, -1, -2) {scale}
    hidden = np.arange(s.shape[-1]) > np.arange(s.shape[-2])[:, None]
    s = np.where(hidden & {mask}, -np.inf, s)
    p = np.exp(s - s.max(-1, keepdims=True))
    return np.moveaxis(p / p.sum(-1, keepdims=True) @ v, -2, {token})
"""


@pytest.mark.parametrize("axes", ["bhnd", "bnhd", "hnd", "nhd", "bnd", "nd"])
@pytest.mark.parametrize("masks", ["never", "always", "told"])
@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("unscaled", [True, False])
def test_every_call_is_made_of_calls_that_it_knows(
    axes: str, masks: str, square: bool, unscaled: bool, tmp_path: Path
) -> None:
    said = [f"axes={axes}", "causal" if masks == "always" else "", "" if square else "any-lengths"]
    text = NUMPY.format(
        said=", ".join(said + ["scale=1"] * unscaled),
        parameters="q, k, v, causal" if masks == "told" else "q, k, v",
        n="q.shape[0]",
        token=-len(axes) + axes.index("n"),
        scale="" if unscaled else "/ np.sqrt(d)",
        mask={"never": "False", "always": "True", "told": "causal"}[masks],
    )
    file = tmp_path / "f.py"
    # A call that a square function does not know fails.
    file.write_text(text.replace("    n, d", "    assert q.shape == k.shape\n    n, d", square))
    mine, reference = Attention(file), Attention("reference")
    for shape, causal in [((5, 5), True), ((5, 5), False), ((2, 5), True), ((1, 5), True),
                          ((3, 5), False), ((7, 5), False)]:  # fmt: skip
        q, k = torch.randn(2, 4, shape[0], 8), torch.randn(2, 2, 5, 8)
        v = torch.randn(2, 2, 5, 8)
        want = reference(q, k, v, causal=causal, scale=0.3)
        torch.testing.assert_close(mine(q, k, v, causal=causal, scale=0.3), want)


POWERS = """import torch
class Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, is_causal=False):
        for n in (*q.shape[1:], *k.shape[1:]):
            assert n >= 16 and n & (n - 1) == 0, n
        s = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
        if is_causal:
            s = s + torch.full_like(s, -torch.inf).triu(1)
        ctx.save_for_backward(q, s.logsumexp(-1))
        return s.softmax(-1) @ v
"""


def test_classes_of_cs336_get_powers_of_two_alone(tmp_path: Path) -> None:
    file = tmp_path / "flash.py"
    file.write_text(POWERS)
    for shape in [(1, 1, 8), (1, 21, 16), (16, 16, 16), (33, 33, 59), (5, 40, 64), (9, 64, 128)]:
        n_q, n_kv, d = shape
        q, k, v = (torch.randn(1, 2, n, d) for n in (n_q, n_kv, n_kv))
        for causal in (True, False):
            got = attention(q, k, v, causal=causal, return_lse=True, kernel=file)
            want = attention(q, k, v, causal=causal, return_lse=True, kernel="reference")
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import numpy\ndef attention(q, k, v): return q @ k.T @ v", r"f\.py:2: .*q \(.*axes=nd"),
        ("def attention(q, k, v): return 3", r"returned \(1,\) for q"),
        ("def attention(q, k, v): pass", "returned NoneType for q"),
        (POWERS.replace("q, s.logsumexp(-1)", "q"), r"saves 0 tensors of \(2, 16\)"),
    ],
)
def test_what_it_does_otherwise_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text(text)
    q, k, v = torch.randn(3, 1, 2, 16, 16)
    lse = torch.empty(1, 2, 16) if "save_for" in text else None
    with pytest.raises(KernelRaised, match=said):
        Attention(file)(q, k, v, causal=False, lse=lse)


def test_files_beside_can_be_imported_and_a_task_of_types_need_not_be(tmp_path: Path) -> None:
    (tmp_path / "scaled.py").write_text("def by(d): return d ** -0.5")
    file = tmp_path / "f.py"
    file.write_text(
        "import torch\nfrom scaled import by\nfrom task import input_t, output_t\n"
        "def custom_kernel(data: input_t) -> output_t:\n    q, k, v = data\n"
        "    return (q @ k.transpose(-1, -2) * by(q.shape[-1])).softmax(-1) @ v\n"
    )
    q, k, v = torch.randn(3, 1, 2, 9, 8)
    want = Attention("reference")(q, k, v, causal=False)
    torch.testing.assert_close(Attention(file)(q, k, v, causal=False), want)
    assert locate(file).square
