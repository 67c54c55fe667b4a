// cause: copies_tensors
// Values are copied for each query, to where they lie without gaps.
#include "../kernel_parts/quick_tiles.h"

#include <cstring>

struct Slow : Tiles {
    static int64_t floats(const gpt149_args *a) {
        return Tiles::floats(a) + BC * (int64_t)a->head_dim;
    }
    void values(int r, int j0, int n) {
        const int d = a->head_dim;
        float *copy = l + BR; // (n, d)
        for (int j = 0; j < n; j++)
            std::memcpy(copy + j * d, gpt149_v(a, b, h, j0 + j), d * sizeof(float));
        for (int j = 0; j < n; j++)
            add_scaled(o + r * d, s[r * BC + j], copy + j * d, d);
    }
};
GPT149_KERNEL({"copies_for_each_row", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
