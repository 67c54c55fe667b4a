// cause: strides_ignored
// Ignores every stride: takes q, k, v and out to be contiguous (batch, head, token, dim). Right
// when they are.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    // Where row `token` of a head starts.
    int64_t start(int64_t n_head, int64_t n_tokens, int head, int token) {
        return ((b * n_head + head) * n_tokens + token) * a->head_dim; // wrong: strides say where
    }
    const float *q() override { return (const float *)a->q + start(a->n_head, a->n_q, h, i); }
    const float *k(int j) override {
        return (const float *)a->k + start(a->n_kv_head, a->n_kv, group(), j);
    }
    const float *v(int j) override {
        return (const float *)a->v + start(a->n_kv_head, a->n_kv, group(), j);
    }
    float *out() override { return (float *)a->out + start(a->n_head, a->n_q, h, i); }
};

GPT149_KERNEL({"contiguous_assumed", "a row of scores; tensors taken to be contiguous", "n_kv",
               one_row, run<Wrong>})
