// cause: max_starts_high
// says: several queries
// One maximum serves all queries of a tile. Right while the rows' maxima are alike.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void score_tile(int j0, int n) override {
        QueryTiles::score_tile(j0, n);
        float tile = -INFINITY;
        for (i = i0; i < i1; i++)
            tile = std::fmax(tile, std::fmax(top(), highest(scores(), n)));
        for (i = i0; i < i1; i++) { // wrong: a maximum of its own
            total() *= std::exp(top() - tile);
            for (int x = 0; x < a->head_dim; x++)
                out()[x] *= std::exp(top() - tile);
            top() = tile;
        }
    }
};

GPT149_KERNEL({"maximum_of_the_tile_of_queries", "br x bc tiles; one m for all rows", "br bc",
               one_query_tile, run<Wrong>})
