// cause: scores_overlap
// says: head_dim|overlap
// All scores of a head in memory, rows head_dim apart: a row that sees more keys runs into the
// next.
#include "../kernel_parts/heads.h"

struct Wrong : Heads {
    float *scores() override {
        return (float *)a->workspace + (int64_t)i * a->head_dim; // wrong: n_kv
    }
    void head() override {
        for (i = a->n_q - 1; i >= 0; i--) // the rows behind a row are there before it
            score_keys(0, keys());
        for (i = 0; i < a->n_q; i++) {
            begin();
            softmax();
            add_values(0, keys());
        }
    }
};

static int64_t workspace_bytes(const gpt149_args *a) {
    return (a->n_q * (int64_t)a->head_dim + a->n_kv) * sizeof(float);
}

GPT149_KERNEL({"scores_head_dim_apart", "all scores of a head; rows head_dim apart", "n_q n_kv",
               workspace_bytes, run<Wrong>})
