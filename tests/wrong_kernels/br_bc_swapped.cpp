// cause: br_bc_confused
// Tiles start br x bc apart (default 32 x 64), but are bc x br large: br < bc skips keys, br > bc
// skips rows and counts keys twice. Right when br = bc, or both >= n_q and n_kv.
#include "../kernel_parts/tiles.h"

static int tile_br(const gpt149_args *a) {
    return a->br > 0 ? a->br : 32;
}
static int tile_bc(const gpt149_args *a) {
    return a->bc > 0 ? a->bc : 64;
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return std::min(std::max(tile_br(a), tile_bc(a)), a->n_kv) * (int64_t)sizeof(float);
}

struct Wrong : Tiles {
    void tiles() override {
        for (int64_t j0 = 0; j0 < keys(); j0 += tile_bc(a))
            tile(j0, std::min<int64_t>(tile_br(a), keys() - j0)); // wrong: tile_bc
    }
    void head() override {
        for (int64_t i0 = 0; i0 < a->n_q; i0 += tile_br(a)) {
            const int64_t end = std::min<int64_t>(i0 + tile_bc(a), a->n_q); // wrong: tile_br
            for (i = i0; i < end; i++)
                row();
        }
    }
};

GPT149_KERNEL({"br_bc_swapped", "br x bc tiles, br and bc confused within", "br + bc",
               workspace_bytes, run<Wrong>})
