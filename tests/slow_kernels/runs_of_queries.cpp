// cause: imbalance
// Each thread gets a run of queries, and the last ones see the most keys.
// shape: 1,1024,64
#include "../kernel_parts/quick_tiles.h"

static const char *run(const gpt149_args *a) {
#pragma omp parallel for schedule(static) num_threads(a->n_threads)
    for (int i0 = 0; i0 < a->n_q; i0 += BR)
        for (int u = 0; u < a->batch * a->n_head; u++)
            attend<Tiles>(a, u / a->n_head, u % a->n_head, i0, std::min(BR, a->n_q - i0),
                          (float *)a->workspace + omp_get_thread_num() * Tiles::floats(a));
    return nullptr;
}
GPT149_KERNEL({"runs_of_queries", "slow", "n_threads", tiles_bytes<Tiles>, run})
