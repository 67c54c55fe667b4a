"""Kernels of other signatures are judged as any other: the examples, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt149.check.cases import quick
from gpt149.check.run import Report, check

EXAMPLES = Path(__file__).parents[2] / "examples" / "signatures"
# Prefill and decode, masked and not, grouped, other layouts and scales, one or more batches.
NAMES = (
    "one-token", "n17", "n31", "n64-full", "more-queries", "fewer-queries", "chunk", "decode",
    "grouped", "batches-full", "padded", "scale-1", "changed", "threads-3", "lse-prefill",
    "lse-decode-short", "rising", "pair-12",
)  # fmt: skip


def judged(file: Path) -> Report:
    report = check(str(file), [case for case in quick() if case.name in NAMES])
    assert [note.cause for note in report.notes].count("read_as") == 1
    return report


@pytest.mark.parametrize("name", ["plain.c", "cs336_flash.py", "custom_kernel.py", "in_numpy.py"])
def test_the_examples_are_right(name: str) -> None:
    report = judged(EXAMPLES / name)
    assert report.right, report.findings
    n_lse = 2 if name == "cs336_flash.py" else 0
    assert len(report.observations) + len(report.too_long) == len(NAMES) - 2 + n_lse
    assert len(report.too_long) < 3


@pytest.mark.parametrize(
    ("name", "mended", "broken", "cause"),
    [
        ("plain.c", "dot / sqrtf(d)", "dot", "scale_missing"),
        ("plain.c", "j < N; j++", "j <= i; j++", "mask_wrong"),
        ("cs336_flash.py", "acc = fade[..., None] * acc", "acc = acc", "acc_not_rescaled"),
        ("cs336_flash.py", "m + l.log()", "l.log()", "lse_without_max"),
        ("custom_kernel.py", "t.repeat_interleave(group, dim=1)", "t.repeat(1, group, 1, 1)",
         "group_mapping"),
        ("plain.c", "int H, int N", "int N, int H", "read_otherwise"),
        ("in_numpy.py", "# gpt149: axes=nd, any-lengths", "", "read_otherwise"),
        ("in_numpy.py", " / np.sqrt(q.shape[1])", " / q.shape[1]", "scale"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_them_is_named(
    name: str, mended: str, broken: str, cause: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    text = (EXAMPLES / name).read_text()
    assert mended in text
    file.write_text(text.replace(mended, broken))
    report = judged(file)
    assert report.findings[0].cause.startswith(cause)
    meant = [note.sentence for note in report.notes if note.cause == "read_otherwise"]
    said = {"dot": "scale=1", "j <= i; j++": "causal"}.get(broken)
    assert [f"gpt149: {said}" in sentence for sentence in meant] == [True] * (said is not None)


TOKENS_FIRST = """import torch
def attention(q, k, v):
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5
    scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
    return torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)
"""


def test_two_things_that_were_read_otherwise_are_found_one_after_the_other(tmp_path: Path) -> None:
    file = tmp_path / "tokens_first.py"
    file.write_text(TOKENS_FIRST)
    found = judged(file).findings[0]
    assert found.cause == "read_otherwise"
    assert "with 'gpt149: axes=bnhd, causal' in a comment it is right" in found.sentence


C = """// gpt149: {said}
#include <math.h>
{storage}{returns} whole({parameters}) {{
#ifdef _OPENMP
#pragma omp parallel for
#endif
    for (int bh = 0; bh < {batch} * {heads}; bh++)
        for (int i = 0; i < {n_q}; i++) {{
            const int b = bh / {heads}, h = bh % {heads}, g = h / ({heads} / {kv_heads});
            float m = -INFINITY, l = 0;
            for (int x = 0; x < d; x++)
                out[{at_q}] = 0;
            for (int j = 0; j < {n_kv}; j++) {{
                if ({causal} && j > i) continue;
                float s = 0;
                for (int x = 0; x < d; x++)
                    s += q[{at_q}] * k[{at_kv}];
                s *= {scale}{tile};
                const float rise = fmaxf(m, s), fade = expf(m - rise), p = expf(s - rise);
                m = rise;
                l = fade * l + p;
                for (int x = 0; x < d; x++)
                    out[{at_q}] = fade * out[{at_q}] + p * v[{at_kv}];
            }}
            for (int x = 0; x < d; x++)
                out[{at_q}] /= l;
            {lse}
        }}
    {end}
}}
"""
AT = {
    "bhnd": "(((long){b} * {heads} + {h}) * {n} + {i}) * d + x",
    "bnhd": "(((long){b} * {n} + {i}) * {heads} + {h}) * d + x",
}


@pytest.mark.parametrize(
    ("ending", "axes", "masks", "more"),
    [
        (".c", "bhnd", "told", "lse grouped tiled"),
        (".cpp", "bnhd", "never", "unscaled grouped"),
        (".c", "hnd", "always", "unscaled"),
        (".cpp", "nhd", "told", "int scaled"),
        (".c", "bnd", "never", "any int"),
        (".cpp", "nd", "always", "any"),
        (".cpp", "nd", "told", "any lse scaled"),
    ],
)
def test_every_form_of_a_function_in_c_is_called_right(
    ending: str, axes: str, masks: str, more: str, tmp_path: Path
) -> None:
    n_q, n_kv = ("M", "N") if "any" in more else ("N", "N")
    heads = "H" if "h" in axes else "1"
    kv_heads = "Hkv" if "grouped" in more else heads
    sizes = {"b": "B", "h": "H", "n": f"{n_q}, int {n_kv}" if "any" in more else "N", "d": "d"}
    parameters = ["const float *q", "const float *k", "const float *v", "float *out"]
    parameters += [f"int {sizes[letter]}" for letter in axes]
    parameters += ["int Hkv"] * ("grouped" in more) + ["float *lse"] * ("lse" in more)
    parameters += ["int Br"] * ("tiled" in more)
    parameters += ["double scale"] * ("scaled" in more and "unscaled" not in more)
    parameters += ["_Bool is_causal" if ending == ".c" else "bool is_causal"] * (masks == "told")
    at = AT["bnhd" if "nh" in axes else "bhnd"]
    batch = "B" if "b" in axes else "1"
    scale = "1" if "unscaled" in more else "scale" if "scaled" in more else "(1 / sqrtf(d))"
    row = f"((long)b * {heads} + h) * {n_q} + i"
    text = C.format(
        said=("causal" if masks == "always" else "") + (", scale=1" * ("unscaled" in more)),
        storage="" if ending == ".c" else "static ",
        returns="int" if "int" in more else "void",
        parameters=", ".join(parameters),
        batch=batch, heads=heads, kv_heads=kv_heads, n_q=n_q, n_kv=n_kv, scale=scale,
        causal={"told": "is_causal", "always": "1", "never": "0"}[masks],
        at_q=at.format(b="b", h="h", i="i", n=n_q, heads=heads),
        at_kv=at.format(b="b", h="g", i="j", n=n_kv, heads=kv_heads),
        tile=" * (Br / Br)" if "tiled" in more else "",  # a tile is never 0
        lse=f"lse[{row}] = m + logf(l);" if "lse" in more else "",
        end="return 0;" if "int" in more else "",
    )  # fmt: skip
    file = tmp_path / f"form{ending}"
    file.write_text(text)
    report = judged(file)
    assert report.right, report.findings
    assert len(report.observations) >= len(NAMES) - 2 + 2 * ("lse" in more) - len(report.too_long)
