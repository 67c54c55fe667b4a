// cause: sum_wrong
// says: sum|l\b
// l is rescaled after the new tile was added, which has the new maximum already. Right for rows of
// one tile.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void take(int j0, int n) override {
        const float before = top();
        QueryTiles::take(j0, n);
        const float shrink = before > -INFINITY ? std::exp(before - top()) : 1;
        float tile = 0;
        for (int j = 0; j < n; j++)
            tile += scores()[j];
        total() += (shrink - 1) * tile; // wrong: as it is
    }
};

GPT149_KERNEL({"l_rescaled_with_new_tile", "br x bc tiles; l rescaled too late", "br bc",
               one_query_tile, run<Wrong>})
