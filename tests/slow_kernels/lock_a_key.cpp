// cause: atomics
// A lock, taken at each key.
#include "../kernel_parts/quick_tiles.h"

static int64_t keys_done;

struct Slow : Tiles {
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0);
        for (int j = 0; j < n; j++) {
            add_scaled(o + r * a->head_dim, s[r * BC + j], v + j * a->v_stride[2], a->head_dim);
#pragma omp critical
            keys_done++;
        }
    }
};
GPT149_KERNEL({"lock_a_key", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
