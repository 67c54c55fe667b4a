// cause: barrier_bound
// A parallel region for each query, whose heads are shared out.
#include "../kernel_parts/quick_tiles.h"

struct Row : Tiles {
    void pack(int, int) {}
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
};

static const char *run(const gpt149_args *a) {
    for (int i = 0; i < a->n_q; i++)
#pragma omp parallel for num_threads(a->n_threads)
        for (int u = 0; u < a->batch * a->n_head; u++) {
            float *space = (float *)a->workspace + omp_get_thread_num() * Tiles::floats(a);
            attend<Row>(a, u / a->n_head, u % a->n_head, i, 1, space);
        }
    return nullptr;
}
GPT149_KERNEL({"region_a_query", "slow", "n_threads", tiles_bytes<Tiles>, run})
