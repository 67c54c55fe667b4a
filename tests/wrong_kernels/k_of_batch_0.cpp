// cause: k_owner
// says: batch
// K is packed once, from batch 0; V follows the batch. Right for a batch of one.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    const float *k(int j) override { return gpt149_k(a, 0, h, j); } // wrong: b
};

GPT149_KERNEL({"k_of_batch_0", "K of batch 0 packed", "head_dim n_kv", row_and_panel, run<Wrong>})
