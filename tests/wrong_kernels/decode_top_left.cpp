// cause: mask_wrong
// says: n_q = 1|decode|j <= i
// A decode step is masked as if its query were the first of the text: it sees key 0 alone.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    int keys() override {
        return a->n_q == 1 && a->causal ? 1 : gpt149_visible(a, i); // wrong: visible in any case
    }
};

GPT149_KERNEL({"decode_top_left", "two passes; a decode step masked from the first key", "1",
               no_bytes, run<Wrong>})
