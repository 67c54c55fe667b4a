// cause: denormals
// Besides, weights of 2^-130 are summed up, which are denormal.
#include "../kernel_parts/quick_tiles.h"

struct Slow : Tiles {
    void values(int r, int j0, int n) {
        const float *v = gpt149_v(a, b, h, j0);
        float sums[16] = {};
        for (int j = 0; j < n; j++) {
            const float p = s[r * BC + j];
            add_scaled(o + r * a->head_dim, p, v + j * a->v_stride[2], a->head_dim);
            for (int again = 0; again < 2; again++)
                add_scaled(sums, p * 0x1p-130f, v + j * a->v_stride[2], std::min(a->head_dim, 16));
            asm volatile("" : : "r"(sums) : "memory");
        }
    }
};
GPT149_KERNEL({"tiny_weights", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
