// cause: head_dim_v_ignored
// says: head_dim_v.*ignored
// Claims rows of V of their own length, and takes them for those of K.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int width() override { return a->head_dim; } // wrong: head_dim_v
};

GPT149_KERNEL({"claims_head_dim_v", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_HEAD_DIM_V})
