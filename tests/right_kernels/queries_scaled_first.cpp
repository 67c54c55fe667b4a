// cause: none
// The query is copied to the workspace and scaled there, before all products.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *a) {
    return one_row(a) + a->head_dim * (int64_t)sizeof(float);
}

struct Right : Rows {
    float *scaled() { return (float *)a->workspace + a->n_kv; } // (head_dim), behind the scores
    float score(int j) override { return dot(scaled(), k(j), a->head_dim); }
    void begin() override {
        Rows::begin();
        for (int x = 0; x < a->head_dim; x++)
            scaled()[x] = a->scale * q()[x];
    }
};

GPT149_KERNEL({"queries_scaled_first", "a row of scores; scaled queries", "n_kv + head_dim",
               workspace_bytes, run<Right>})
