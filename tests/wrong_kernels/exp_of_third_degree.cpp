// cause: exp_wrong
// says: exp
// 2^f by a polynomial of the third degree with Taylor's coefficients about 0: 0.4 % off near 1.
#include "../kernel_parts/tiles.h"

struct Wrong : Tiles {
    static float power(float x) {
        if (x < -80) return 0;
        const float y = x * 1.44269504f, whole = std::floor(y), f = y - whole;
        const float p = 1 + f * (0.6931472f + f * (0.2402265f + f * 0.0555041f)); // wrong: more
        return std::ldexp(p, (int)whole);
    }
    void tile(int j0, int n) override {
        score_keys(j0, n);
        raise(highest(scores(), n));
        for (int j = 0; j < n; j++)
            l += scores()[j] = power(scores()[j] - m);
        add_values(j0, n);
    }
};

GPT149_KERNEL({"exp_of_third_degree", "bc keys a tile; a short polynomial", "bc", one_tile,
               run<Wrong>})
