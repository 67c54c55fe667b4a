// cause: reads_outside
// Offsets of rows are computed in 32 bits.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    const float *k(int j) override { // wrong: int64_t
        const uint32_t offset = (uint32_t)b * (uint32_t)a->k_stride[0] +
                                (uint32_t)group() * (uint32_t)a->k_stride[1] +
                                (uint32_t)j * (uint32_t)a->k_stride[2];
        return (const float *)a->k + (int32_t)offset;
    }
};

GPT149_KERNEL({"int32_offsets", "a row of scores; int offsets", "n_kv", one_row, run<Wrong>})
