// cause: scale_twice
// The scale is applied to q, and once more to the scores. Right when the scale is 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float *query = q(), *key = k(j), scale = a->scale;
        return scale * sum(a->head_dim, [=](int x) {
                   return scale * query[x] * key[x]; // wrong: it is scaled below
               });
    }
};

GPT149_KERNEL({"scale_twice", "a row of scores; scaled twice", "n_kv", one_row, run<Wrong>})
