// cause: none
// Sums in any order and no thought of NaN and infinity, which do not occur: the maximum starts at
// the first score.
#include "gpt149.h"

#include <cmath>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fast-math")
#endif

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}

static const char *run(const gpt149_args *a) {
    float *s = (float *)a->workspace;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                const int n = gpt149_visible(a, i), d = a->head_dim;
                const float *q = gpt149_q(a, b, h, i);
                for (int j = 0; j < n; j++) {
                    const float *k = gpt149_k(a, b, h, j);
                    float dot = 0;
                    for (int x = 0; x < d; x++)
                        dot += q[x] * k[x];
                    s[j] = a->scale * dot;
                }
                float m = s[0], l = 0, *out = gpt149_out(a, b, h, i);
                for (int j = 1; j < n; j++)
                    m = s[j] > m ? s[j] : m;
                for (int j = 0; j < n; j++)
                    l += s[j] = std::exp(s[j] - m);
                for (int x = 0; x < d; x++)
                    out[x] = 0;
                for (int j = 0; j < n; j++)
                    for (int x = 0; x < d; x++)
                        out[x] += s[j] / l * gpt149_v(a, b, h, j)[x];
            }
    return nullptr;
}

GPT149_KERNEL({"fast_math", "a row of scores; fast-math", "n_kv", workspace_bytes, run})
