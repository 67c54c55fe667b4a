"""Mistakes in a part of the work, the rest being right: of some keys, of a tile, of some dims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpt149.check.cases import quick
from gpt149.check.observe import Memo
from gpt149.check.report import as_text
from gpt149.check.run import check

KERNELS = r"""
#include "%s/../kernel_parts/varied.h"

struct LoneKeys : Rows { // those behind whole fours lose the tail of head_dim
    float score(int j) override {
        return a->scale * dot(q(), k(j), j < keys() / 4 * 4 ? a->head_dim : a->head_dim / 8 * 8);
    }
};
struct TileOfTheMask : Varied { // what its mask hides is capped
    int keys() override {
        return a->causal ? std::min(a->n_kv, (position() / 16 + 1) * 16) : a->n_kv;
    }
    float score(int j) override {
        return capped(j, a->causal && j > position() ? -INFINITY : a->scale * product(j));
    }
};
struct SumOfHidden : Varied { // the loop of the sum begins at key 0
    float of_sink() override {
        float more = 0;
        for (int j = 0; a->kv_begin && j < a->kv_begin[b]; j++)
            more += std::exp(score(j) - m);
        return more;
    }
};
struct EverySecondCut : Varied {
    void store() override {
        for (int x = 1; a->dtype && x < width(); x += 2) {
            uint32_t bits;
            std::memcpy(&bits, &sum[x], sizeof bits);
            bits &= 0xffff0000;
            std::memcpy(&sum[x], &bits, sizeof bits);
        }
        Varied::store();
    }
};
struct LastValueLost : Rows {
    void add_values(int j0, int n) override { Rows::add_values(j0, n - (j0 + n == a->n_kv)); }
};
struct WholeSum : Rows {
    void softmax() override {
        int whole = 0;
        for (int j = 0; j < keys(); j++)
            whole += scores()[j] = std::exp(scores()[j]);
        divide(scores(), keys(), std::max(whole, 1));
    }
};
struct LastTileAlone : Rows {
    void add_values(int j0, int n) override {
        for (int j = j0; j < j0 + n; j += 16) {
            std::fill_n(out(), a->head_dim, 0.0f);
            const int rest = std::min(16, j0 + n - j);
            std::copy_n(scores() + j, rest, scores());
            Rows::add_values(j, rest);
        }
    }
};

GPT149_KERNEL({"lone_keys", "", "n_kv", one_row, run<LoneKeys>},
              {"last_value_lost", "", "n_kv", one_row, run<LastValueLost>},
              {"whole_sum", "", "n_kv", one_row, run<WholeSum>},
              {"last_tile_alone", "", "n_kv", one_row, run<LastTileAlone>},
              {"tile_of_the_mask", "", "n_kv", one_row, run<TileOfTheMask>, GPT149_SOFTCAP},
              {"sum_of_hidden", "", "n_kv", one_row, run<SumOfHidden>, GPT149_KV_BEGIN},
              {"every_second_cut", "", "n_kv", one_row, run<EverySecondCut>,
               GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
"""
SAYS = {
    # kernel: cases, what is said of it
    "lone_keys": (
        ("n17", "n33", "n127"),
        "head_dim_cut: dims 56-58 of 59 do not count in the scores of the keys behind whole "
        "vectors of 4 of what a query sees",
    ),
    "last_value_lost": (
        ("n33", "n127"),
        "mask_wrong: the last key is never seen; the sum l has them all: it is their values",
    ),
    "whole_sum": (
        ("n127",),
        r"sum_wrong: each row of exp\(s\) is divided by a whole number, \d+ in query 126: its sum "
        "l is kept in an integer",
    ),
    "last_tile_alone": (
        ("n33", "decode"),
        "acc_overwritten: each tile's values take the place of those before",
    ),
    "tile_of_the_mask": (
        ("softcap-prefill", "softcap-chunk"),
        r"softcap_behind_mask: .* \(first: key \d+ for query 0",
    ),
    "sum_of_hidden": (
        ("kv_begin-full", "kv_begin-decode"),
        "sum_wrong: the sum l also has the keys that are hidden before a row's first",
    ),
    "every_second_cut": (
        ("bfloat16-q-prefill",),
        r"out_truncated: .* all values of dims .* \(in steps of 2\) are too small \(in",
    ),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One, so that it is compiled once."""
    file = tmp_path_factory.mktemp("kernels") / "mine.cpp"
    file.write_text(KERNELS % Path(__file__).parent)
    return file


@pytest.fixture(scope="module")
def memo() -> Memo:
    return {}


@pytest.mark.parametrize("kernel", SAYS)
def test_the_part_is_named(kernel: str, file: Path, memo: Memo) -> None:
    names, says = SAYS[kernel]
    report = check(f"{file}:{kernel}", [c for c in quick() if c.name in names], memo=memo)
    assert report.failed
    said = as_text(kernel, report)
    assert re.search(f"Cause: {says}", said), said
