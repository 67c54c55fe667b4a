// cause: none
// Keys in the outer loop, queries in the inner one: each key is read once for all rows of a head,
// whose maxima and sums are kept.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *a) {
    return 2 * (int64_t)a->n_q * sizeof(float);
}

struct Right : Rows {
    void head() override {
        float *ms = (float *)a->workspace, *ls = ms + a->n_q;
        for (i = 0; i < a->n_q; i++) {
            begin();
            ms[i] = m;
            ls[i] = l;
        }
        for (int j = 0; j < a->n_kv; j++)
            for (i = 0; i < a->n_q; i++) {
                if (j >= keys()) continue;
                const float s = score(j), top = std::fmax(ms[i], s);
                const float shrink = std::exp(ms[i] - top), p = std::exp(s - top);
                ls[i] = ls[i] * shrink + p;
                ms[i] = top;
                for (int x = 0; x < a->head_dim; x++)
                    out()[x] = out()[x] * shrink + p * v(j)[x];
            }
        for (i = 0; i < a->n_q; i++)
            divide(out(), a->head_dim, ls[i]);
    }
};

GPT149_KERNEL({"keys_outside", "keys outside, queries inside", "n_q", workspace_bytes, run<Right>})
