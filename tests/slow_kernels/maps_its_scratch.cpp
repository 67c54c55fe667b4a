// cause: page_faults
// Scratch memory is taken from the system and given back, for each tile.
#include "../kernel_parts/quick_tiles.h"

#include <sys/mman.h>

static int64_t none(const gpt149_args *) {
    return 0;
}
static const char *run(const gpt149_args *a) {
    const int n = (a->n_q + BR - 1) / BR, units = a->batch * a->n_head;
    const int64_t bytes = 4 * Tiles::floats(a) + (1 << 20);
#pragma omp parallel for schedule(dynamic) num_threads(a->n_threads)
    for (int i = 0; i < n * units; i++) {
        const int u = i % units, i0 = (n - 1 - i / units) * BR;
        void *space =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int64_t page = 0; page < bytes; page += 4096) // as if all were used
            ((volatile char *)space)[page] = 0;
        attend<Tiles>(a, u / a->n_head, u % a->n_head, i0, std::min(BR, a->n_q - i0),
                      (float *)space);
        munmap(space, bytes);
    }
    return nullptr;
}
GPT149_KERNEL({"maps_its_scratch", "slow", "1", none, run})
