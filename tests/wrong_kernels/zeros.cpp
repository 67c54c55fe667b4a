// cause: zeros
// Writes zeros, which a tolerance relative to nothing lets pass.
#include "gpt149.h"

#include <algorithm>

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

static const char *run(const gpt149_args *a) {
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++)
                std::fill_n(gpt149_out(a, b, h, i), a->head_dim, 0.0f);
    return nullptr;
}

GPT149_KERNEL({"zeros", "writes zeros", "1", workspace_bytes, run})
