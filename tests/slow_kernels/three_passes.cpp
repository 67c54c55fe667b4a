// cause: recomputed_work
// Scores are computed for the maximum, again for the sum, and again for V.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void scores(int r, int j0, int n) {
        for (int pass = 0; pass < 3; pass++) {
            Tiles::scores(r, j0, n);
            asm volatile("" : : "r"(s) : "memory"); // who reads it is not the compiler's business
        }
    }
};
GPT149_KERNEL({"three_passes", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
