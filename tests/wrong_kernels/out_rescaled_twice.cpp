// cause: blocks_weighed
// says: twice|tile|block|boundar
// When the maximum rises, out shrinks in the old tile's loop and again in the new one's; l once.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void take(int j0, int n) override {
        const float rise = std::fmax(0.0f, highest(scores(), n) - top());
        if (rise > 0 && rise < INFINITY)
            for (int x = 0; x < a->head_dim; x++)
                out()[x] *= std::exp(-rise); // wrong: take() does so
        QueryTiles::take(j0, n);
    }
};

GPT149_KERNEL({"out_rescaled_twice", "br x bc tiles; out shrinks twice", "br bc", one_query_tile,
               run<Wrong>})
