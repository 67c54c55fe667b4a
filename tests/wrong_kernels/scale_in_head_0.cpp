// cause: scale_wrong
// says: head
// q is scaled in a buffer for head 0 alone; for the others the scale is left out.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float score(int j) override {
        return (h == 0 ? a->scale : 1) * dot(q(), k(j), a->head_dim); // wrong: the scale
    }
};

GPT149_KERNEL({"scale_in_head_0", "a row of scores; head 0 is scaled", "n_kv", one_row, run<Wrong>})
