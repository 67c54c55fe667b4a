// cause: top_k
// says: largest
// Hard attention: the value of the key with the highest score. Right where a query sees one key.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    void row() override {
        int best = 0;
        for (int j = 1; j < keys(); j++)
            if (score(j) > score(best)) best = j;
        std::copy_n(v(best), a->head_dim, out()); // wrong: one value of many
    }
};

GPT149_KERNEL({"highest_alone", "the value of the highest score", "1", no_bytes, run<Wrong>})
