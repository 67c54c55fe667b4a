// cause: mask_wrong
// says: 512
// A buffer for 512 scores: keys behind the first 512 are left out. Right for n_kv <= 512.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    int keys() override { return std::min(gpt149_visible(a, i), 512); } // wrong: without the 512
};

GPT149_KERNEL({"keys_beyond_512", "a row of at most 512 scores", "512", one_row, run<Wrong>})
