// cause: none
// Every variant by an online softmax in base 2. It begins at the sink, whose weight of 1 is in the
// sum from the start, and whole tiles of keys that nobody sees are skipped.
#include "../kernel_parts/varied.h"

struct Online : Varied {
    void row() override {
        const float log2e = 1.44269504f;
        sum.assign(width(), 0);
        m = a->sinks ? sink() * log2e : -INFINITY;
        l = a->sinks ? 1 : 0;
        for (int j0 = first() / 32 * 32; j0 < keys(); j0 += 32)
            for (int j = std::max(j0, first()); j < std::min(j0 + 32, keys()); j++) {
                const float s = score(j) * log2e, top = std::fmax(m, s), *value = v(j);
                const float shrink = std::exp2(m - top), p = std::exp2(s - top);
                l = l * shrink + p;
                for (int x = 0; x < width(); x++)
                    out()[x] = out()[x] * shrink + p * value[x];
                m = top;
            }
        for (int x = 0; x < width() && l > 0; x++)
            out()[x] /= l;
        store();
        if (a->lse) *gpt149_lse(a, b, h, i) = (m + std::log2(l)) / log2e;
    }
};

GPT149_KERNEL({"online_varied", "one pass over the keys in base 2; every variant", "1", no_bytes,
               run<Online>, EVERYTHING})
