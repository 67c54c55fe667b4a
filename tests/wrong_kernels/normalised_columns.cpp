// cause: wrong_axis
// The softmax runs down the columns: for each key over the queries that see it, not for each query
// over its keys. Right when n_q = n_kv = 1.
#include "../kernel_parts/heads.h"

struct Wrong : Heads {
    void head() override {
        const int n_q = a->n_q, n_kv = a->n_kv;
        for (i = 0; i < n_q; i++)
            score_keys(0, keys());
        for (int j = 0; j < n_kv; j++) { // wrong: over i, and the three loops within over j
            const int first = a->causal ? std::max(0, j - (n_kv - n_q)) : 0; // query that sees j
            float *s = (float *)a->workspace + j, top = -INFINITY, total = 0;
            for (int64_t row = first; row < n_q; row++)
                top = std::fmax(top, s[row * n_kv]);
            for (int64_t row = first; row < n_q; row++)
                total += s[row * n_kv] = std::exp(s[row * n_kv] - top);
            for (int64_t row = first; row < n_q; row++)
                s[row * n_kv] /= total;
        }
        for (i = 0; i < n_q; i++) {
            begin();
            add_values(0, keys());
        }
    }
};

GPT149_KERNEL({"normalised_columns", "all scores of a head; softmax over the queries", "n_q n_kv",
               all_rows, run<Wrong>})
