// cause: k_rounded
// says: few bits|quantised
// Keys are rounded to multiples of 1/32, as if they were kept in 8 bits.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float *query = q(), *key = k(j);
        const float s = sum(a->head_dim, [=](int x) {
            return query[x] * (std::nearbyint(key[x] * 32) / 32); // wrong: key[x]
        });
        return a->scale * s;
    }
};

GPT149_KERNEL({"keys_in_8_bits", "a row of scores; keys in 8 bits", "n_kv", one_row, run<Wrong>})
