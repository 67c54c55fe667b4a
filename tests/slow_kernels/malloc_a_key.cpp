// cause: allocates
// Memory for each key, taken and given back.
#include "../kernel_parts/quick_tiles.h"

#include <cstdlib>

struct Slow : Tiles {
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0);
        for (int j = 0; j < n; j++) {
            float *weight = (float *)std::malloc(4096);
            asm volatile("" : "+r"(weight)); // else the compiler does without
            *weight = s[r * BC + j];
            add_scaled(o + r * a->head_dim, *weight, v + j * a->v_stride[2], a->head_dim);
            std::free(weight);
        }
    }
};
GPT149_KERNEL({"malloc_a_key", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
