// cause: sum_wrong
// says: sum|l\b
// l grows only in the tiles that raise the maximum. Right for rows of one tile.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void take(int j0, int n) override {
        const float before = total(), m_before = top();
        QueryTiles::take(j0, n);
        if (top() == m_before) total() = before; // wrong: the tile's weights count as well
    }
};

GPT149_KERNEL({"l_only_on_rise", "br x bc tiles; l grows with the maximum", "br bc", one_query_tile,
               run<Wrong>})
