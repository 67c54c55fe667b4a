// cause: none
// Tells the compiler that rows are aligned where they are, and only there.
#include "../kernel_parts/rows.h"

struct Right : Rows {
    static bool aligned(const float *row) { return (uintptr_t)row % 32 == 0; }
    float score(int j) override {
        const float *query = q(), *key = k(j);
        if (!aligned(query) || !aligned(key)) return Rows::score(j);
        query = (const float *)__builtin_assume_aligned(query, 32);
        key = (const float *)__builtin_assume_aligned(key, 32);
        return a->scale * dot(query, key, a->head_dim);
    }
};

GPT149_KERNEL({"aligned_where_it_can", "a row of scores; aligned loads", "n_kv", one_row,
               run<Right>})
