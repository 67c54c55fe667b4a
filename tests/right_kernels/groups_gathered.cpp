// cause: none
// A key is read once for all heads of its group: an online softmax of several rows side by side.
#include "gpt149.h"

#include <cmath>

// m, l and an accumulator for each head of a group.
static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_head / a->n_kv_head * (a->head_dim + 2ll) * sizeof(float);
}

static const char *run(const gpt149_args *a) {
    const int group = a->n_head / a->n_kv_head, d = a->head_dim;
    for (int b = 0; b < a->batch; b++)
        for (int first = 0; first < a->n_head; first += group)
            for (int i = 0; i < a->n_q; i++) {
                float *m = (float *)a->workspace, *l = m + group, *acc = l + group;
                for (int g = 0; g < group; g++)
                    m[g] = -INFINITY, l[g] = 0;
                for (int e = 0; e < group * d; e++)
                    acc[e] = 0;
                for (int j = 0; j < gpt149_visible(a, i); j++) {
                    const float *k = gpt149_k(a, b, first, j), *v = gpt149_v(a, b, first, j);
                    for (int g = 0; g < group; g++) {
                        const float *q = gpt149_q(a, b, first + g, i);
                        float s = 0, *o = acc + g * d;
                        for (int x = 0; x < d; x++)
                            s += q[x] * k[x];
                        const float top = std::fmax(m[g], s *= a->scale);
                        const float shrink = std::exp(m[g] - top), p = std::exp(s - top);
                        l[g] = l[g] * shrink + p;
                        m[g] = top;
                        for (int x = 0; x < d; x++)
                            o[x] = o[x] * shrink + p * v[x];
                    }
                }
                for (int g = 0; g < group; g++)
                    for (int x = 0; x < d; x++)
                        gpt149_out(a, b, first + g, i)[x] = acc[g * d + x] / l[g];
            }
    return nullptr;
}

GPT149_KERNEL({"groups_gathered", "the heads of a group side by side", "group head_dim",
               workspace_bytes, run})
