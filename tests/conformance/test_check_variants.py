"""Variants of attention in `check`: who is asked them, what is guarded, what is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt149.check.cases import FIELDS, Case, full, quick
from gpt149.check.report import as_json, as_text
from gpt149.check.run import check
from gpt149.check.unclaimed import mentions, parameters
from gpt149.cli import main
from gpt149.errors import InputError
from gpt149.kernels.abi import Feature

QUICK = {case.name: case for case in quick()}
VARIED = [case for case in QUICK.values() if case.needs]
# As of ABI 1, whose kernels knew of no features.
OLD = """
#include "gpt149.h"

#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) { return (int64_t)a->n_kv * sizeof(float); }

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    float *s = (float *)a->workspace;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                const float *q = gpt149_q(a, b, h, i);
                float m = -INFINITY, l = 0, *out = gpt149_out(a, b, h, i);
                for (int j = 0; j < gpt149_visible(a, i); j++) {
                    const float *k = gpt149_k(a, b, h, j);
                    s[j] = 0;
                    for (int x = 0; x < a->head_dim; x++) s[j] += q[x] * k[x];
                    m = std::fmax(m, s[j] *= a->scale);
                }
                for (int j = 0; j < gpt149_visible(a, i); j++) l += s[j] = std::exp(s[j] - m);
                for (int x = 0; x < a->head_dim; x++) out[x] = 0;
                for (int j = 0; j < gpt149_visible(a, i); j++)
                    for (int x = 0; x < a->head_dim; x++)
                        out[x] += s[j] / l * gpt149_v(a, b, h, j)[x];
            }
    return nullptr;
}

GPT149_KERNEL({"old", "a row of scores", "n_kv", workspace_bytes, run})
"""
WHOLE = '#include "%s/../kernel_parts/varied.h"\nstruct Mine : Varied {\n    %s\n};\n'
WHOLE += 'GPT149_KERNEL({"mine", "a row", "n_kv", one_row, run<Mine>, %s})\n'


def varied(tmp_path: Path, body: str, features: str) -> str:
    """A right kernel with a part of one's own."""
    file = tmp_path / "mine.cpp"
    file.write_text(WHOLE % (Path(__file__).parent, body, features))
    return str(file)


def test_each_feature_is_asked_in_quick_and_any_two_meet() -> None:
    asked = {case.needs for case in QUICK.values()}
    both = Feature.KV_BFLOAT16 | Feature.Q_BFLOAT16  # the second is never without the first
    for a in Feature:
        for b in Feature:
            wanted = a | b | (both if Feature.Q_BFLOAT16 in a | b else Feature(0))
            assert wanted in asked, wanted
    assert sum(Feature) in asked
    assert len({case.name for case in full()}) == len(full())


def test_draws_have_what_is_hard(tmp_path: Path) -> None:
    given = Case("", 5, 8, 2, 9, 33, 8, alibi=True, sinks=True, kv_begin=True).vectors()
    begins, sinks = given["kv_begin"].tolist(), given["sinks"].tolist()
    assert begins[1:3] == [33, 0]
    assert all(0 <= begin <= 33 for begin in begins)
    assert (max(sinks), min(sinks)) == (110, -10000)
    assert len(set(given["alibi_slopes"].tolist())) == 8


def test_a_kernel_of_the_first_abi_is_asked_no_variant_and_is_right(tmp_path: Path) -> None:
    file = tmp_path / "old.cpp"
    file.write_text(OLD)
    report = check(str(file), quick())
    assert report.right
    assert len(report.observations) == len(QUICK) - len(VARIED)
    assert not report.claimed
    assert "Claimed" not in as_text(str(file), report)
    for feature in Feature:
        case = next(c for c in VARIED if c.needs & feature)
        with pytest.raises(InputError, match=f"GPT149_{feature.name}"):
            check(str(file), [case])
    done = CliRunner().invoke(main, ["check", str(file), "--case", "window-prefill"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is not asked 'window-prefill': it does not claim a sliding window" in done.stderr


def test_what_is_claimed_is_asked_and_said(tmp_path: Path) -> None:
    spec = varied(tmp_path, "", "GPT149_WINDOW | GPT149_SINKS")
    report = check(spec, quick())
    assert report.right
    needs = {o.case.needs for o in report.observations}
    both = Feature.WINDOW | Feature.SINKS
    assert needs == {Feature(0), Feature.WINDOW, Feature.SINKS, both}
    n = {f: sum(bool(c.needs & f) and not c.needs & ~both for c in VARIED) for f in Feature}
    said = f"WINDOW ({n[Feature.WINDOW]}), SINKS ({n[Feature.SINKS]})."
    assert f"Claimed, and asked in so many cases: {said}" in as_text(spec, report)
    assert as_json(spec, report)["claimed"]["SINKS"] == n[Feature.SINKS]


@pytest.mark.parametrize("kernel", ["naive", "flash", "blocked", "fused", "reference", "torch"])
def test_shipped_kernels_compute_what_they_claim(kernel: str) -> None:
    cases = [replace(case, seed=7) for case in VARIED if case.work < 1_000_000]
    report = check(kernel, cases, explained=False)
    assert [o.case.name for o in report.failed] == []
    assert report.claimed


def test_variants_under_the_sanitizers() -> None:
    cases = [QUICK[name] for name in ("everything-prefill", "everything-decode", "window-chunk")]
    report = check("naive", cases, sanitizers="address,undefined", timeout=30.0)
    assert report.right


BAD = {
    # part: (features, the report says)
    "void row() override { Varied::row(); ((float *)a->sinks)[h] = 0; }": (
        "GPT149_SINKS",
        r"mutates_input: the kernel changes its input sinks",
    ),
    "void row() override { Varied::row(); ((int32_t *)a->kv_begin)[b] = 0; }": (
        "GPT149_KV_BEGIN",
        r"mutates_input: the kernel changes its input kv_begin",
    ),
    "float slope() override { return a->alibi_slopes[h + 1]; }": (
        "GPT149_ALIBI",
        r"slopes_of_another_head: .*of head h \+ 1",
    ),
    "float lse() override { gpt149_lse(a, b, h, i)[1] = 0; return Varied::lse(); }": (
        "GPT149_LSE",
        r"writes_outside: the kernel writes outside of out",
    ),
    # What no known mistake predicts is read.
    "int first() override { return std::max(0, Varied::first() - a->window / 3); }": (
        "GPT149_WINDOW",
        r"window_wrong: .*where window = \d+, query \d+ of batch 0 .* sees the keys",
    ),
    "float sink() override { return a->sinks ? 0.7f * a->sinks[h] - 0.2f : -INFINITY; }": (
        "GPT149_SINKS",
        r"sinks_wrong: each head's sink counts as 0.7 times the sink .* - 0.2",
    ),
    "float biased(int j, float s) override "
    "{ return s + (a->alibi_slopes ? 0.7f * slope() * (j - position()) : 0); }": (
        "GPT149_ALIBI",
        r"slopes_wrong: each head's slope counts as 0.7 times the slope",
    ),
    "float capped(int, float s) override "
    "{ return a->softcap > 0 ? std::atan(s / a->softcap) * a->softcap : s; }": (
        "GPT149_SOFTCAP",
        r"softcap_wrong: a score of .* counts as .*, and capped at .* it is",
    ),
    "float lse() override { return 2 * m + std::log(l); }": (
        "GPT149_LSE",
        r"lse_wrong: out is right and lse is not",
    ),
}


@pytest.mark.parametrize("body", BAD, ids=lambda body: BAD[body][1][:20])
def test_what_is_wrong_with_a_variant_is_said(body: str, tmp_path: Path) -> None:
    features, says = BAD[body]
    guarded = body.replace("((float *)a->sinks)", "if (a->sinks) ((float *)a->sinks)").replace(
        "((int32_t *)a->kv_begin)", "if (a->kv_begin) ((int32_t *)a->kv_begin)"
    )
    spec = varied(tmp_path, guarded, features)
    report = check(spec, quick(), timeout=10.0)
    assert report.failed
    assert all(o.case.needs for o in report.failed)
    assert re.search(f"Cause: {says}", as_text(spec, report)), as_text(spec, report)


@pytest.mark.parametrize("field", FIELDS)
def test_cases_are_replayed_by_name(field: str) -> None:
    case = next(c for c in VARIED if getattr(c, field))
    done = CliRunner().invoke(main, ["check", "naive", "--case", case.name, "--json"])
    assert done.exit_code == 0, done.output
    [kernel] = json.loads(done.stdout)["kernels"]
    assert [c["case"] for c in kernel["cases"]] == [case.name]
    assert field in kernel["cases"][0]["shape"] or "bfloat16" in kernel["cases"][0]["shape"]


def test_what_is_mentioned_and_not_claimed_is_told(tmp_path: Path) -> None:
    """And judged as if it were claimed: one feature is wrong, the others are right."""
    body = "float sink() override { return a->sinks ? a->sinks[h / 2] : -INFINITY; }"
    spec = varied(tmp_path, body, "GPT149_WINDOW | GPT149_LSE")
    report = check(spec, [QUICK["n17"], *VARIED], timeout=10.0)
    assert report.right
    wrong, rest = report.notes
    asked = sum(case.needs == Feature.SINKS for case in VARIED)
    assert 0.5 < wrong.share < 1
    said = as_text(spec, report)
    assert f"Note: {wrong.sentence}" in said
    assert re.search(
        r"mentions sinks \(mine.cpp:3\) and does not claim sinks: that was not asked. Were "
        rf"it claimed by GPT149_SINKS in GPT149_KERNEL, \d+ of {asked} cases would be wrong, first "
        r"by sinks_of_another_head: .* head 1 takes that of head 0, by h / 2",
        said,
    )
    assert rest.share == 0
    assert "GPT149_ALIBI | GPT149_HEAD_DIM_V | GPT149_KV_BFLOAT16" in rest.sentence
    assert "cases would be right" in rest.sentence
    assert [note["sentence"] for note in as_json(spec, report)["notes"]] == [
        wrong.sentence,
        rest.sentence,
    ]


def test_what_is_declined_or_no_code_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "old.cpp"
    refusing = """if (a->window || a->dtype != GPT149_FLOAT32) return "no a->sinks";
    // a->softcap is another's, and so is
    /* a->lse */
    if"""
    file.write_text(OLD.replace("if", refusing, 1))
    report = check(str(file), [QUICK["n17"], *VARIED])
    assert report.right
    assert report.notes == ()
    assert list(mentions([file]).values()) == ["window (old.cpp:9)", "dtype (old.cpp:9)"]


def test_parameters_that_no_call_gives_are_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from gpt149 import attention as right\n"
        "def attention(q, k, v, *, causal, scale, window=0, sliding=0, **more):\n"
        "    return right(q, k, v, causal=causal, scale=scale, window=window)\n"
    )
    [note] = parameters(file, "")
    assert "no call gives its sliding, **more: " in note.sentence
    assert "window, softcap, alibi_slopes" in note.sentence


TWO = """int first() override {
        const int own = std::max(0, a->window ? position() - a->window : 0);
        return a->kv_begin ? std::max(own, a->kv_begin[b]) : own;
    }
    float of_sink() override { return a->sinks ? std::exp(a->sinks[h / 2] - m) : 0; }
    int keys() override { return Varied::keys() - (%s && a->n_q == 1 && a->n_kv > 100); }"""


@pytest.mark.parametrize("plain_too", [False, True])
def test_each_variant_that_is_wrong_has_its_finding(plain_too: bool, tmp_path: Path) -> None:
    spec = varied(tmp_path, TWO % int(plain_too), "GPT149_WINDOW | GPT149_SINKS")
    some = [QUICK[name] for name in ("n17", "decode", "long-decode", "grouped")]
    report = check(spec, [*some, *VARIED], timeout=10.0)
    found = re.findall(r"^  (?:Cause|And): (.*)", as_text(spec, report), re.MULTILINE)
    if plain_too:
        assert "key" in found[0]
        assert [said.split(":")[0] for said in found[1:]] == ["window_off_by_one"]
        return
    sinks, window = sorted(found)
    assert "sinks_of_another_head: " in sinks
    assert "head 1 takes that of head 0, by h / 2" in sinks
    assert window.startswith(
        "window_off_by_one: the window is off by one: a query sees one key too"
    )


def test_errors_of_bfloat16_calls_are_told_in_its_rounding(tmp_path: Path) -> None:
    spec = varied(tmp_path, "float sum_of(float x) { return x; }", "GPT149_KV_BFLOAT16")
    case = QUICK["bfloat16-cache"]
    assert "x what bfloat16 rounding explains" in as_text(spec, check(spec, [case]))
    spec = varied(tmp_path, "float product(int j) override { return 2 * Varied::product(j); }",
                  "GPT149_KV_BFLOAT16")  # fmt: skip
    assert "times what bfloat16 rounding explains" in as_text(spec, check(spec, [case]))
