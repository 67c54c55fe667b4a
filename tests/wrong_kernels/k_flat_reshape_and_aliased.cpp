// cause: k_flat_reshape + aliased_scores
// Two mistakes: K is read as a row-major (d, n_kv) matrix, and scores are stored at i * head_dim +
// j, so that a row of more than head_dim runs into the next.
#include "../kernel_parts/heads.h"

struct Wrong : Heads {
    float flat_k(int64_t flat) { return k(flat / a->head_dim)[flat % a->head_dim]; }
    float score(int j) override {
        auto key = [=](int x) { return flat_k((int64_t)x * a->n_kv + j); }; // wrong: k(j)[x]
        return a->scale * sum(a->head_dim, [=](int x) { return q()[x] * key(x); });
    }
    // Rows no longer than n_kv, so that nothing outside the workspace is touched.
    float *scores() override {
        return (float *)a->workspace + i * (int64_t)std::min(a->head_dim, a->n_kv); // wrong: n_kv
    }
};

GPT149_KERNEL({"k_flat_reshape_and_aliased",
               "all scores of a head; K reshaped, score rows head_dim apart", "n_q n_kv", all_rows,
               run<Wrong>})
