// cause: none
// An online softmax that begins at the last visible key.
#include "../kernel_parts/two_passes.h"

struct Right : TwoPasses {
    void row() override {
        begin();
        for (int j = keys() - 1; j >= 0; j--) {
            const float s = score(j), top = std::fmax(m, s);
            const float shrink = std::exp(m - top), p = std::exp(s - top);
            for (int x = 0; x < a->head_dim; x++)
                out()[x] = out()[x] * shrink + p * v(j)[x];
            l = l * shrink + p;
            m = top;
        }
        divide(out(), a->head_dim, l);
    }
};

GPT149_KERNEL({"reversed_keys", "online softmax from the last key on", "1", no_bytes, run<Right>})
