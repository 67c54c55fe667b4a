// 1. The definition, a query at a time: scores, softmax, weighted sum of the values.
//
// Bottleneck: a sum waits for each of its additions, and values are read column by column.
#include "gpt149.h"

#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return a->n_kv * sizeof(float);
}

static void attend(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    float *out = gpt149_out(a, b, h, i);

    float m = -INFINITY;
    for (int j = 0; j < n; j++) {
        const float *k = gpt149_k(a, b, h, j);
        float dot = 0;
        for (int x = 0; x < d; x++)
            dot += q[x] * k[x];
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }

    float l = 0;
    for (int j = 0; j < n; j++) {
        s[j] = std::exp(s[j] - m);
        l += s[j];
    }

    for (int x = 0; x < d; x++) {
        float sum = 0;
        for (int j = 0; j < n; j++)
            sum += s[j] * gpt149_v(a, b, h, j)[x];
        out[x] = sum / l;
    }
}

static const char *run(const gpt149_args *a) {
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"definition", "a query at a time", "n_kv", workspace_bytes, run})
