// cause: k_address
// says: 16.bit|65,?536
// The offset of a row of K is kept in 16 bits. Right where K's heads have less than 65,536
// elements.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    const float *k(int j) override {
        const uint16_t offset = j * a->k_stride[2]; // wrong: int64_t
        return Splits::k(0) + offset;
    }
};

GPT149_KERNEL({"offsets_in_16_bits", "four splits; short offsets", "head_dim", accumulators,
               run<Wrong>})
