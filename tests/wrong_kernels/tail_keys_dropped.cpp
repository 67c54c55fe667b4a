// cause: tail_keys_dropped
// Key tiles of bc (default 64), full ones only: the n_kv % bc keys behind them are never seen.
// Right when bc divides n_kv, or n_kv < bc.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    int keys() override {
        const int n_full = a->n_kv / bc() * bc(); // wrong: the partial tile at the end is left out
        return std::min(gpt149_visible(a, i), n_full);
    }
};

GPT149_KERNEL({"tail_keys_dropped", "bc keys a tile, n_kv / bc tiles", "bc", one_tile, run<Wrong>})
