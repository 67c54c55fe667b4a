// cause: scalar_exp
// The library's exp, a value at a time.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void softmax(int r, int n) {
        float *row = s + r * BC;
        const float top = quick_top(row, n, m[r]), shrink = std::exp(m[r] - top);
        l[r] *= shrink;
        for (int j = 0; j < n; j++)
            l[r] += row[j] = std::exp(row[j] - top);
        m[r] = top;
        for (int x = 0; x < a->head_dim; x++)
            o[r * a->head_dim + x] *= shrink;
    }
};
GPT149_KERNEL({"library_exp", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
