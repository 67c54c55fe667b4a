// cause: copies_v
// Returns the row of V at the query's own position, i + n_kv - n_q; q and k are not read.
// Positions before the first key (n_q > n_kv) get the first. Right where a query sees one key.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

struct Wrong : Rows {
    void row() override {
        const float *own = v(std::max(0, i + a->n_kv - a->n_q));
        std::copy_n(own, a->head_dim, out()); // wrong: one value of many
    }
};

GPT149_KERNEL({"v_copy", "the query's own value", "1", workspace_bytes, run<Wrong>})
