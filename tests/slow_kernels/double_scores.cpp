// cause: double_arithmetic
// Scores are summed up in double.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void scores(int r, int, int n) {
        double sums[BC] = {};
        for (int x = 0; x < a->head_dim; x++) {
            const double by = q[r * a->head_dim + x];
#pragma omp simd
            for (int j = 0; j < n; j++)
                sums[j] += by * kt[x * BC + j];
        }
        for (int j = 0; j < n; j++)
            s[r * BC + j] = (float)sums[j];
    }
};
GPT149_KERNEL({"double_scores", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
