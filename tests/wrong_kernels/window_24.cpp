// cause: mask_wrong
// says: \b24\b
// The online softmax begins at a query's last 24 keys, as a local layer of another model does.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float score(int j) override {
        return j < keys() - 24 ? -INFINITY : TwoPasses::score(j); // wrong: the score
    }
    void first_pass() override {
        for (int j = std::max(0, keys() - 24); j < keys(); j++) {
            const float s = score(j), top = std::fmax(m, s);
            l = l * exp(m - top) + exp(s - top);
            m = top;
        }
    }
};

GPT149_KERNEL({"window_24", "two passes over the last 24 keys", "1", no_bytes, run<Wrong>})
