// cause: acc_not_reset
// The accumulator of the output is cleared once a head, not once a query: row i is the sum of the
// rows 0 to i. Right for row 0.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *a) {
    return ((int64_t)a->n_kv + a->head_dim) * sizeof(float);
}

struct Wrong : Rows {
    float *acc() { return (float *)a->workspace + a->n_kv; } // (head_dim), behind the scores
    float *out() override { return acc(); }
    void begin() override {
        m = -INFINITY;
        l = 0;
        if (i == 0) std::fill_n(acc(), a->head_dim, 0.0f); // wrong: else acc holds the row before
    }
    void row() override {
        Rows::row();
        std::copy_n(acc(), a->head_dim, Rows::out());
    }
};

GPT149_KERNEL({"acc_carries", "a row of scores; the accumulator carried from query to query",
               "n_kv + head_dim", workspace_bytes, run<Wrong>})
