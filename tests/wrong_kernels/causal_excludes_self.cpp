// cause: causal_off_by_one
// The causal mask is off by one: query i sees j < i + n_kv - n_q, so not itself. A query that sees
// nothing outputs zeros. Right without a mask.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override {
        return gpt149_visible(a, i) - (a->causal ? 1 : 0); // wrong: < for <=
    }
};

GPT149_KERNEL({"causal_excludes_self", "a row of scores; the diagonal masked as well", "n_kv",
               one_row, run<Wrong>})
