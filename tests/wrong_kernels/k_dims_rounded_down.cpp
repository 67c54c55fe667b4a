// cause: k_address
// says: rounded down|multiple of 4
// Dims of K are read in steps of four: each four times the first of its vector.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float score(int j) override {
        const float *query = q(), *key = k(j);
        return a->scale *
               sum(a->head_dim, [=](int x) { return query[x] * key[x / 4 * 4]; }); // wrong: x
    }
};

GPT149_KERNEL({"k_dims_rounded_down", "two passes; the first of four dims", "1", no_bytes,
               run<Wrong>})
