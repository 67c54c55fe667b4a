// cause: copies_v
// Returns the row of V at the query's own position, i + n_kv - n_q; q and k are not read.
// Positions before the first key (n_q > n_kv) get the first. Right where a query sees one key.
#include "gpt149.h"

#include <algorithm>

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

static const char *run(const gpt149_args *a) {
    if (const char *why = gpt149_only_float32(a)) return why;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < a->n_q; i++) {
                const float *v = gpt149_v(a, b, h, std::max(0, i + a->n_kv - a->n_q));
                std::copy_n(v, a->head_dim, gpt149_out(a, b, h, i)); // wrong: one value of many
            }
    return nullptr;
}

GPT149_KERNEL({"v_copy", "the query's own value", "1", workspace_bytes, run})
