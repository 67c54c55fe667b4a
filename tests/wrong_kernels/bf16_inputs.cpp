// cause: half_precision
// q, k and v are rounded to bfloat16 before use, where float32 was asked for. Right when they hold
// such values already.
#include "gpt149.h"

#include <cmath>
#include <cstring>

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}

// The nearest bfloat16.
static float to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & ~0xffffu; // to nearest, ties to even
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

static void attend_row(const gpt149_args *a, int b, int h, int i, float *s) {
    const int d = a->head_dim, n = gpt149_visible(a, i);
    const float *q = gpt149_q(a, b, h, i);
    float m = -INFINITY, l = 0;
    for (int j = 0; j < n; j++) {
        const float *k = gpt149_k(a, b, h, j);
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int x = 0; x < d; x++)
            dot += to_bf16(q[x]) * to_bf16(k[x]); // wrong: q[x] * k[x]
        s[j] = a->scale * dot;
        m = std::fmax(m, s[j]);
    }
    for (int j = 0; j < n; j++)
        l += s[j] = std::exp(s[j] - m);

    float *out = gpt149_out(a, b, h, i);
    for (int x = 0; x < d; x++)
        out[x] = 0;
    for (int j = 0; j < n; j++) {
        const float p = s[j] / l, *v = gpt149_v(a, b, h, j);
        for (int x = 0; x < d; x++)
            out[x] += p * to_bf16(v[x]); // wrong: p * v[x]
    }
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                attend_row(a, b, h, i, (float *)a->workspace);
    return nullptr;
}

GPT149_KERNEL({"bf16_inputs", "a row of scores; inputs in bfloat16", "n_kv", workspace_bytes, run})
