// cause: none
// Right; computes in double, and rounds to float at the end.
#include "gpt149.h"

#include <algorithm>
#include <cmath>

static int64_t workspace_bytes(const gpt149_args *a) {
    return ((int64_t)a->n_kv + a->head_dim) * sizeof(double);
}

static void attend_row(const gpt149_args *a, int b, int h, int i, double *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    double m = -INFINITY, l = 0;
    for (int j = 0; j < n; j++) {
        const float *k = gpt149_k(a, b, h, j);
        double dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += (double)q[x] * k[x];
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }
    for (int j = 0; j < n; j++)
        l += s[j] = std::exp(s[j] - m);

    double *acc = s + a->n_kv;
    std::fill_n(acc, d, 0.0);
    for (int j = 0; j < n; j++) {
        const float *v = gpt149_v(a, b, h, j);
        for (int x = 0; x < d; x++)
            acc[x] += s[j] / l * v[x];
    }
    std::copy_n(acc, d, gpt149_out(a, b, h, i));
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, (double *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"double_inside", "a row of scores in double", "n_kv + head_dim", workspace_bytes,
               run})
