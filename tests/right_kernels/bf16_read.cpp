// cause: none
// Reads keys and values of bfloat16 too, widened as they are used.
#include "gpt149.h"

#include <cmath>
#include <cstring>

// Element x of row j of K or V.
static float element(const gpt149_args *a, const void *tensor, const int64_t *stride, int b, int h,
                     int j, int x) {
    h /= a->n_head / a->n_kv_head;
    const int64_t at = b * stride[0] + h * stride[1] + j * stride[2] + x;
    if (a->kv_dtype == GPT149_FLOAT32) return ((const float *)tensor)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)tensor)[at] << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return (int64_t)a->n_kv * sizeof(float);
}

static const char *run(const gpt149_args *a) {
    float *s = (float *)a->workspace;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                const int n = gpt149_visible(a, i);
                const float *q = gpt149_q(a, b, h, i);
                float m = -INFINITY, l = 0, *out = gpt149_out(a, b, h, i);
                for (int j = 0; j < n; j++) {
                    s[j] = 0;
                    for (int x = 0; x < a->head_dim; x++)
                        s[j] += q[x] * element(a, a->k, a->k_stride, b, h, j, x);
                    m = std::fmax(m, s[j] *= a->scale);
                }
                for (int j = 0; j < n; j++)
                    l += s[j] = std::exp(s[j] - m);
                for (int x = 0; x < a->head_dim; x++)
                    out[x] = 0;
                for (int j = 0; j < n; j++)
                    for (int x = 0; x < a->head_dim; x++)
                        out[x] += s[j] / l * element(a, a->v, a->v_stride, b, h, j, x);
            }
    return nullptr;
}

GPT149_KERNEL({"bf16_read", "a row of scores; K and V of either dtype", "n_kv", workspace_bytes,
               run, GPT149_KV_BFLOAT16})
