// cause: masked_work
// Tiles that the mask hides are computed, and thrown away.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    int end() const { return a->n_kv; }
    int sees(int, int, int n) const { return n; }
    void scores(int r, int j0, int n) {
        Tiles::scores(r, j0, n);
        for (int j = Tiles::sees(r, j0, n); j < n; j++)
            s[r * BC + j] = -1e30f;
    }
};
GPT149_KERNEL({"hidden_tiles", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
