// cause: added_to_out
// says: not cleared
// An accumulator from malloc is cleared behind each row, and not before the first.
#include "../kernel_parts/two_passes.h"

#include <cstdlib>

struct Wrong : TwoPasses {
    float *acc; // (head_dim)

    void second_pass() override {
        for (int j = 0; j < keys(); j++) {
            const float p = exp(score(j) - m) / l;
            for (int x = 0; x < a->head_dim; x++)
                acc[x] += p * v(j)[x];
        }
        std::copy_n(acc, a->head_dim, out());
        std::fill_n(acc, a->head_dim, 0.0f);
    }
    void call() override {
        const size_t n_bytes = a->head_dim * sizeof(float);
        void *stale = std::malloc(n_bytes); // as an earlier user of the heap leaves it
        std::memset(stale, 0x3f, n_bytes);
        acc = (float *)stale; // wrong: calloc
        TwoPasses::call();
        std::free(acc);
    }
};

GPT149_KERNEL({"first_accumulator_uncleared", "two passes; an accumulator from the heap",
               "head_dim", no_bytes, run<Wrong>})
