// cause: not_reentrant
// The scores are kept in a buffer that all calls share, not in the workspace. Right as long as one
// call ends before the next begins.
#include "../kernel_parts/rows.h"

static float buffer[1 << 20];

struct Wrong : Rows {
    float *scores() override { return buffer; } // wrong: the workspace
};

GPT149_KERNEL({"static_buffer", "a row of scores; a static buffer", "n_kv", one_row, run<Wrong>})
