// cause: poor_scaling
// There is scratch memory for one thread, and they take turns at it.
#include "../kernel_parts/quick_tiles.h"

static int64_t bytes(const gpt149_args *a) {
    return 4 * Tiles::floats(a);
}
static const char *run(const gpt149_args *a) {
    const int units = a->batch * a->n_head;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(a->n_threads)
    for (int u = 0; u < units; u++)
        for (int i0 = 0; i0 < a->n_q; i0 += BR)
#pragma omp critical
            attend<Tiles>(a, u / a->n_head, u % a->n_head, i0, std::min(BR, a->n_q - i0),
                          (float *)a->workspace);
    return nullptr;
}
GPT149_KERNEL({"turns_at_scratch", "slow", "1", bytes, run})
