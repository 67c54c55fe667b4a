// cause: workspace_assumed_zero
// Adds the scores to a workspace that it takes to be zero-filled; it arrives uninitialised. Right
// when it happens to hold zeros.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->batch * a->n_head * a->n_q * one_row(a);
}

struct Wrong : Rows {
    float *scores() override { // (batch, n_head, n_q, n_kv)
        return (float *)a->workspace + (((int64_t)b * a->n_head + h) * a->n_q + i) * a->n_kv;
    }
    void score_keys(int, int n) override {
        for (int j = 0; j < n; j++)
            scores()[j] += score(j); // wrong: = score(j)
    }
};

GPT149_KERNEL({"reads_workspace", "all scores of all heads, added up in the workspace",
               "batch n_head n_q n_kv", workspace_bytes, run<Wrong>})
