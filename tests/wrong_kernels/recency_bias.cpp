// cause: position_bias
// says: position|index|linear
// Each key back costs 0.02: a position bias of one slope for all heads.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    float score(int j) override {
        return QueryTiles::score(j) + 0.02f * j; // wrong: without 0.02f * j
    }
};

GPT149_KERNEL({"recency_bias", "br x bc tiles; later keys score higher", "br bc", one_query_tile,
               run<Wrong>})
