// cause: strided_access
// A column of V at a time, so that each read is a row further.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0), *weights = s + r * BC;
        for (int x = 0; x < a->head_dim; x++) {
            float sum = 0;
            for (int j = 0; j < n; j++)
                sum += weights[j] * v[j * a->v_stride[2] + x];
            o[r * a->head_dim + x] += sum;
        }
    }
};
GPT149_KERNEL({"columns_of_v", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
