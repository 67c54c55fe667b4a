// cause: mask_wrong
// says: diagonal|own block|block of 32
// The loop over key tiles ends before the tile that the mask goes through, unless it is the first.
// Right without a mask.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    int end_of_keys() override {
        const int end = gpt149_visible(a, i0);
        return end > bc() && a->causal ? end / bc() * bc() : end; // wrong: of i1 - 1
    }
};

GPT149_KERNEL({"diagonal_tile_skipped", "br x bc tiles; whole tiles of keys", "br bc",
               one_query_tile, run<Wrong>})
