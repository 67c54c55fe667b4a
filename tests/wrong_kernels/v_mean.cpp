// cause: v_mean
// Returns the mean of the visible rows of V; q and k are not read. Right where a query sees one
// key.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

struct Wrong : Rows {
    void row() override {
        std::fill_n(out(), a->head_dim, 0.0f);
        for (int j = 0; j < keys(); j++)
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += v(j)[x] / keys(); // wrong: weights of 1 / keys()
    }
};

GPT149_KERNEL({"v_mean", "the mean of the visible values", "1", workspace_bytes, run<Wrong>})
