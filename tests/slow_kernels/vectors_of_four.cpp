// cause: narrow_vectors
// Vectors of four floats, whatever the machine has.
#include "../kernel_parts/quick_tiles.h"

static void add_scaled_by_four(float *y, float by, const float *from, int n) {
#pragma omp simd simdlen(4)
    for (int x = 0; x < n; x++)
        y[x] += by * from[x];
}

struct Slow : Tiles {
    void scores(int r, int, int n) {
        std::fill_n(s + r * BC, BC, 0.0f);
        for (int x = 0; x < a->head_dim; x++)
            add_scaled_by_four(s + r * BC, q[r * a->head_dim + x], kt + x * BC, n);
    }
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0);
        for (int j = 0; j < n; j++)
            add_scaled_by_four(o + r * a->head_dim, s[r * BC + j], v + j * a->v_stride[2],
                               a->head_dim);
    }
};
GPT149_KERNEL({"vectors_of_four", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
