// cause: barrier_bound
// A parallel region for each query, whose heads are shared out.
#include "../kernel_parts/dot_tiles.h"

static const char *run(const gpt149_args *a) {
    for (int i = 0; i < a->n_q; i++)
#pragma omp parallel for num_threads(a->n_threads)
        for (int u = 0; u < a->batch * a->n_head; u++) {
            float *space = (float *)a->workspace + omp_get_thread_num() * Tiles::floats(a);
            attend<DotTiles>(a, u / a->n_head, u % a->n_head, i, 1, space);
        }
    return nullptr;
}
GPT149_KERNEL({"region_a_query", "slow", "n_threads", tiles_bytes<Tiles>, run})
