// cause: mask_wrong
// says: (block|multiple)s? of 8
// The end of the visible keys is rounded up to whole vectors of eight. Right without a mask.
#include "../kernel_parts/packed.h"

struct Wrong : Packed {
    int keys() override {
        const int n = gpt149_visible(a, i);
        return std::min((n + 7) / 8 * 8, a->n_kv); // wrong: n
    }
};

GPT149_KERNEL({"mask_rounded_up", "K packed; eight keys at a time", "head_dim n_kv", row_and_panel,
               run<Wrong>})
