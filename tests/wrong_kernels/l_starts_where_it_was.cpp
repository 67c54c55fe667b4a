// cause: workspace_unset
// says: query 0
// The sums in the workspace are set for every query but the first of a head.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void begin_tile() override {
        for (i = i0; i < i1; i++) {
            begin();
            top() = 0;
            if (i > 0) total() = 0; // wrong: for any
        }
    }
};

GPT149_KERNEL({"l_starts_where_it_was", "br x bc tiles; sums as they lie", "br bc", one_query_tile,
               run<Wrong>})
