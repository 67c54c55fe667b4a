// cause: window_ignored
// says: window.*ignored
// Claims windows, and masks as if there were none.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    int first() override { return a->kv_begin ? a->kv_begin[b] : 0; } // wrong: a->window
};

GPT149_KERNEL({"claims_window", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_WINDOW | GPT149_KV_BEGIN})
