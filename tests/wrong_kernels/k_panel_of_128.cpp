// cause: k_address
// says: 128
// A packed panel of 128 keys that is filled once: key j is read at j % 128. Right for n_kv <= 128.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    const float *k(int j) override { return TwoPasses::k(j % 128); } // wrong: j
};

GPT149_KERNEL({"k_panel_of_128", "two passes over a ring of 128 keys", "1", no_bytes, run<Wrong>})
