// cause: scores_overlap
// says: overlap|apart
// The scores of a tile are kept at r * br + c, so that its rows run into each other. Right for
// tiles with bc <= br.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    float *scores() override {
        return (float *)a->workspace + (i - i0) * std::min(br(), bc()); // wrong: bc()
    }
};

GPT149_KERNEL({"tile_rows_br_apart", "br x bc tiles; scores br apart", "br bc", one_query_tile,
               run<Wrong>})
