// cause: mask_wrong
// says: by blocks|(block|tile)s? of 16
// The causal mask knows tiles only: a query sees all keys up to the last query of its tile. Right
// without a mask, and for one query.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    bool sees(int j) override { return j < gpt149_visible(a, i1 - 1); } // wrong: of i
};

GPT149_KERNEL({"block_causal", "br x bc tiles; masked by the tile", "br bc", one_query_tile,
               run<Wrong>})
