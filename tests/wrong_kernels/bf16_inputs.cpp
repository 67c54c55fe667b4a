// cause: half_precision
// q, k and v are rounded to bfloat16 before use, where float32 was asked for. Right when they hold
// such values already.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    static float to_bf16(float x) { return shortened(x, 16); }

    float score(int j) override {
        const float *query = q(), *key = k(j);
        return a->scale * sum(a->head_dim, [=](int x) {
                   return to_bf16(query[x]) * to_bf16(key[x]); // wrong: query[x] * key[x]
               });
    }
    void add_values(int j0, int n) override {
        float *o = out();
        for (int j = 0; j < n; j++) {
            const float p = scores()[j], *value = v(j0 + j);
            for (int x = 0; x < a->head_dim; x++)
                o[x] += p * to_bf16(value[x]); // wrong: p * value[x]
        }
    }
};

GPT149_KERNEL({"bf16_inputs", "a row of scores; inputs in bfloat16", "n_kv", one_row, run<Wrong>})
