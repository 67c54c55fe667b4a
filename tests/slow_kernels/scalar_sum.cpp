// cause: scalar_loop
// A dot product in the order of its terms, which no compiler may change.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void scores(int r, int j0, int n) {
        for (int j = 0; j < n; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            float dot = 0;
            for (int x = 0; x < a->head_dim; x++)
                dot += q[r * a->head_dim + x] * k[x];
            s[r * BC + j] = dot;
        }
    }
};
GPT149_KERNEL({"scalar_sum", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
