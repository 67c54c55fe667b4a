// cause: scores_overlap
// says: overlap
// Both mistakes of an accessor for (batch, head, token, dim) that serves for scores too: (j, x) of
// K is read at x * head_dim + j, and the score (i, j) is kept at i * head_dim + j.
#include "../kernel_parts/heads.h"

struct Wrong : Heads {
    float *scores() override {
        return (float *)a->workspace + (int64_t)i * a->head_dim; // wrong: n_kv
    }
    float score(int j) override {
        const float *query = q(), *flat = k(0);
        float s = 0;
        for (int x = 0; x < a->head_dim; x++)
            s += query[x] * flat[x * a->head_dim + j]; // wrong: x + j * head_dim
        return a->scale * s;
    }
};

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_q * ((int64_t)a->n_kv + a->head_dim) * sizeof(float);
}

GPT149_KERNEL({"k_and_scores_exchanged", "all scores of a head, by one accessor", "n_q n_kv",
               workspace_bytes, run<Wrong>})
