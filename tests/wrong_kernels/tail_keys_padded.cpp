// cause: tail_keys_in_sum
// A partial key tile at the end (n_kv % bc keys) is filled up with keys and values of zeros: their
// score is 0, so each adds exp(0 - m) to l. Right when bc divides n_kv, or n_kv < bc.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    void tile(int j0, int n) override {
        const int n_keys = a->n_kv - j0; // padding lies behind them
        score_keys(j0, n);
        raise(std::fmax(highest(scores(), n), n_keys < bc() ? 0 : -INFINITY));
        l = exponentials(scores(), n, m, l);
        add_values(j0, n);
        for (int j = n_keys; j < bc(); j++)
            l += std::exp(0 - m); // wrong: padding should be masked with -inf
    }
};

GPT149_KERNEL({"tail_keys_padded", "bc keys a tile; the last one padded with zeros", "bc", one_tile,
               run<Wrong>})
