// cause: scale_missing
// says: bfloat16
// The path for bfloat16 keys and values forgets the scale; that for float32 is right.
#include "../kernel_parts/rows.h"

#include <vector>

struct Wrong : Rows {
    const float *widened(const void *tensor, const int64_t *stride, int j,
                         std::vector<float> &row) {
        const uint16_t *half = (const uint16_t *)tensor + b * stride[0] + group() * stride[1];
        row.resize(a->head_dim);
        for (int x = 0; x < a->head_dim; x++) {
            const uint32_t bits = (uint32_t)half[j * stride[2] + x] << 16;
            std::memcpy(&row[x], &bits, sizeof bits);
        }
        return row.data();
    }
    bool is_half() { return a->kv_dtype == GPT149_BFLOAT16; }
    std::vector<float> key, value;
    const float *k(int j) override {
        return is_half() ? widened(a->k, a->k_stride, j, key) : Rows::k(j);
    }
    const float *v(int j) override {
        return is_half() ? widened(a->v, a->v_stride, j, value) : Rows::v(j);
    }
    float score(int j) override {
        return (is_half() ? 1 : a->scale) * dot(q(), k(j), a->head_dim); // wrong: a->scale
    }
};

GPT149_KERNEL({"bf16_without_scale", "a row of scores; bfloat16 without a scale", "n_kv", one_row,
               run<Wrong>, GPT149_KV_BFLOAT16})
