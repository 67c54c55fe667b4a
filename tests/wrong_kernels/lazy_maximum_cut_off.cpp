// cause: records_wrong
// says: maximum
// The maximum is raised only where a score exceeds it by 4; below that, weights end at 1.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    void row() override {
        begin();
        for (int j = 0; j < keys(); j++) {
            const float s = score(j), *value = v(j);
            if (s > m + 4) {
                const float shrink = std::exp(m - s);
                l *= shrink;
                for (int x = 0; x < a->head_dim; x++)
                    out()[x] *= shrink;
                m = s;
            }
            const float p = std::exp(std::fmin(s - m, 0)); // wrong: without fmin
            l += p;
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += p * value[x];
        }
        divide(out(), a->head_dim, l);
    }
};

GPT149_KERNEL({"lazy_maximum_cut_off", "one pass; rescaled seldom", "1", no_bytes, run<Wrong>})
