// cause: division_in_loop
// Every product with V is divided, by what could divide the row once.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void values(int r, int j0, int n) {
        const float by = a->head_dim, *v = gpt149_v(a, b, h, j0);
        for (int j = 0; j < n; j++) {
            const float p = s[r * BC + j] * by, *row = v + j * a->v_stride[2];
#pragma omp simd
            for (int x = 0; x < a->head_dim; x++)
                o[r * a->head_dim + x] += p * row[x] / by;
        }
    }
};
GPT149_KERNEL({"divides_each_value", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
