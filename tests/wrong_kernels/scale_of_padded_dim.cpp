// cause: scale_wrong
// says: scale|multipl
// The scale is worked out from head_dim rounded up to 16, whatever the call says. Right where it is
// 1 / sqrt(head_dim) of a multiple of 16.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float score(int j) override {
        const int padded = (a->head_dim + 15) / 16 * 16;
        return dot(q(), k(j), a->head_dim) / std::sqrt((float)padded); // wrong: a->scale * dot
    }
};

GPT149_KERNEL({"scale_of_padded_dim", "two passes; a scale of its own", "1", no_bytes, run<Wrong>})
