// cause: acc_not_reset
// says: clear|reset|tile|before
// out is cleared for the first tile of queries alone; the others begin with the rows of the tile
// before, which are still in the accumulator.
#include "../kernel_parts/query_tiles.h"

static int64_t workspace_bytes(const gpt149_args *a) {
    return one_query_tile(a) + tile_br(a) * (int64_t)a->head_dim * sizeof(float);
}

struct Wrong : QueryTiles {
    float *out() override { // (br, head_dim), behind the rest
        return (float *)a->workspace + br() * (bc() + 2) + (i - i0) * a->head_dim;
    }
    void begin_tile() override {
        for (i = i0; i < i1; i++) {
            if (i0 == 0) std::fill_n(out(), a->head_dim, 0.0f); // wrong: in any tile
            top() = -INFINITY;
            total() = 0;
        }
    }
    void take(int j0, int n) override {
        const bool first = top() == -INFINITY;
        if (first) top() = highest(scores(), n); // nothing to rescale
        QueryTiles::take(j0, n);
    }
    void tile() override {
        QueryTiles::tile();
        for (i = i0; i < i1; i++)
            std::copy_n(out(), a->head_dim, QueryTiles::Rows::out());
    }
};

GPT149_KERNEL({"cleared_for_first_tile", "br x bc tiles; an accumulator", "br (bc + head_dim)",
               workspace_bytes, run<Wrong>})
