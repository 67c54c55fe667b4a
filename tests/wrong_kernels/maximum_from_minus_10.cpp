// cause: max_starts_high
// says: maximum|max|\bm\b
// The running maximum starts at -10, "small enough". Right unless all scores of a row are below
// -97.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void begin_tile() override {
        QueryTiles::begin_tile();
        for (i = i0; i < i1; i++)
            top() = -10; // wrong: -INFINITY
    }
};

GPT149_KERNEL({"maximum_from_minus_10", "br x bc tiles; m from -10", "br bc", one_query_tile,
               run<Wrong>})
