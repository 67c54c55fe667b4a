// cause: v_owner
// says: batch
// V's batch stride is forgotten: every batch reads V of batch 0. Right for a batch of one.
#include "../kernel_parts/splits.h"

struct Wrong : Splits {
    const float *v(int j) override { return gpt149_v(a, 0, h, j); } // wrong: b
};

GPT149_KERNEL({"v_of_batch_0", "four splits; V of batch 0", "head_dim", accumulators, run<Wrong>})
