// cause: horizontal_sums
// Lanes are head_dim, so that each score ends in adding up a vector.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void scores(int r, int j0, int n) {
        const float *row = q + r * a->head_dim;
        for (int j = 0; j < n; j++) {
            const float *k = gpt149_k(a, b, h, j0 + j);
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int x = 0; x < a->head_dim; x++)
                dot += row[x] * k[x];
            s[r * BC + j] = dot;
        }
    }
    void pack(int, int) {}
};
GPT149_KERNEL({"dot_products", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
