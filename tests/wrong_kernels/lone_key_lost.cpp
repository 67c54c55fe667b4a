// cause: mask_wrong
// says: remainder
// Keys are taken two at a time, and one that is left over at the end is left out, unless it is the
// first.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    int keys() override {
        const int n = TwoPasses::keys();
        return n > 1 ? n / 2 * 2 : n; // wrong: n
    }
};

GPT149_KERNEL({"lone_key_lost", "two passes over pairs of keys", "1", no_bytes, run<Wrong>})
