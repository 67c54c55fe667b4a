// cause: none
// Right; float32 throughout, and every sum strictly in order.
#include "../kernel_parts/rows.h"

struct Right : Rows {
    float score(int j) override {
        const float *query = q(), *key = k(j);
        float dot = 0;
        for (int x = 0; x < a->head_dim; x++)
            dot += query[x] * key[x];
        return a->scale * dot;
    }
};

GPT149_KERNEL({"plain_sequential", "a row of scores; plain loops", "n_kv", one_row, run<Right>})
