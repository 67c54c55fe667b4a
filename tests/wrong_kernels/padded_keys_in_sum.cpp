// cause: sum_wrong
// says: padding
// The keys are padded to whole eights with zeros, whose scores of 0 enter maximum and sum. Right
// where a query sees a multiple of 8.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    void first_pass() override {
        TwoPasses::first_pass();
        const int n_padding = (8 - keys() % 8) % 8;
        const float top = n_padding ? std::fmax(m, 0.0f) : m;
        l = l * exp(m - top) + n_padding * exp(0 - top); // wrong: padding is no key
        m = top;
    }
};

GPT149_KERNEL({"padded_keys_in_sum", "two passes over whole eights of keys", "1", no_bytes,
               run<Wrong>})
