// cause: none
// The maximum that is subtracted follows the row's only when that is 8 above it, so that little is
// rescaled.
#include "../kernel_parts/rows.h"

struct Right : Rows {
    void row() override {
        begin();
        for (int j = 0; j < keys(); j++) {
            const float s = score(j);
            if (s > m + 8) {
                const float shrink = std::exp(m - s);
                l *= shrink;
                for (int x = 0; x < a->head_dim; x++)
                    out()[x] *= shrink;
                m = s;
            }
            const float p = std::exp(s - m);
            l += p;
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += p * v(j)[x];
        }
        divide(out(), a->head_dim, l);
    }
};

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

GPT149_KERNEL({"lazy_rescale", "online softmax that rescales seldom", "1", workspace_bytes,
               run<Right>})
