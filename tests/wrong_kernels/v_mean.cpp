// cause: v_mean
// Returns the mean of the visible rows of V; q and k are not read. Right where a query sees one
// key.
#include "gpt149.h"

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    const int d = a->head_dim;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                const int n = gpt149_visible(a, i);
                float *out = gpt149_out(a, b, h, i);
                for (int x = 0; x < d; x++)
                    out[x] = 0;
                for (int j = 0; j < n; j++)
                    for (int x = 0; x < d; x++)
                        out[x] += gpt149_v(a, b, h, j)[x] / n; // wrong: weights of 1 / n
            }
    return nullptr;
}

GPT149_KERNEL({"v_mean", "the mean of the visible values", "1", workspace_bytes, run})
