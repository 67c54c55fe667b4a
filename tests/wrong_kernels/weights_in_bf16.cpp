// cause: half_precision
// says: bfloat16
// Weights are rounded to bfloat16 for the product with V; l is their sum before.
#include "../kernel_parts/query_tiles.h"

struct Wrong : QueryTiles {
    void add_values(int j0, int n) override {
        for (int j = 0; j < n; j++)
            scores()[j] = shortened(scores()[j], 16); // wrong: as it is
        QueryTiles::add_values(j0, n);
    }
};

GPT149_KERNEL({"weights_in_bf16", "br x bc tiles; P in bfloat16", "br bc", one_query_tile,
               run<Wrong>})
