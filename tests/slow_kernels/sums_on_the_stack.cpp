// cause: spills
// 12 rows of 64 scores are summed up at once: half as many vectors again as there are registers.
#include "../kernel_parts/quick_tiles.h"

typedef float Vec __attribute__((vector_size(64), aligned(4), may_alias));

struct Slow : Tiles {
    static constexpr int ROWS = 12, WIDE = BC / 16;

    void scores(int r0, int, int) {
        if (r0 % ROWS) return; // those of the rows behind it are there
        Vec sums[ROWS][WIDE] = {};
        for (int x = 0; x < a->head_dim; x++)
#pragma GCC unroll 12
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                for (int w = 0; w < WIDE; w++)
                    sums[r][w] +=
                        q[(r0 + r) * a->head_dim + x] * *(const Vec *)(kt + x * BC + 16 * w);
#pragma GCC unroll 12
        for (int r = 0; r < std::min(ROWS, BR - r0); r++)
            for (int w = 0; w < WIDE; w++)
                *(Vec *)(s + (r0 + r) * BC + 16 * w) = sums[r][w];
    }
};
GPT149_KERNEL({"sums_on_the_stack", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
