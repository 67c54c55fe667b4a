// cause: softcap_behind_mask
// says: behind the mask
// Hidden scores are -infinity before they are capped: tanh makes -softcap of it.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int keys() override { return a->n_kv; } // wrong: those that are seen
    float score(int j) override {
        return capped(j, j <= position() || !a->causal ? a->scale * product(j) : -INFINITY);
    }
};

GPT149_KERNEL({"softcap_behind_mask", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_SOFTCAP})
