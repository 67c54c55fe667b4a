// cause: parallel_over_heads_only
// A head is one thread's.
// shape: 1,512,64
#include "../kernel_parts/quick_tiles.h"

static const char *run(const gpt149_args *a) {
#pragma omp parallel for num_threads(a->n_threads)
    for (int u = 0; u < a->batch * a->n_head; u++)
        for (int i0 = 0; i0 < a->n_q; i0 += BR)
            attend<Tiles>(a, u / a->n_head, u % a->n_head, i0, std::min(BR, a->n_q - i0),
                          (float *)a->workspace + omp_get_thread_num() * Tiles::floats(a));
    return nullptr;
}
GPT149_KERNEL({"thread_a_head", "slow", "n_threads", tiles_bytes<Tiles>, run})
