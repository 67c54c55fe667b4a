// cause: dims_left_out
// says: 4-7|4, 5
// Two vectors of four dims a turn, and the second one is forgotten: dims 4 to 7 of every 8 do not
// count, unless fewer than 8 are left.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        const float *query = q(), *key = k(j);
        const int d = a->head_dim;
        float s = 0;
        int x = 0;
        for (; x + 8 <= d; x += 8)
            s += dot(query + x, key + x, 4); // wrong: 8
        return a->scale * (s + dot(query + x, key + x, d - x));
    }
};

GPT149_KERNEL({"dims_4_to_7", "a row of scores; half of each vector", "n_kv", one_row, run<Wrong>})
