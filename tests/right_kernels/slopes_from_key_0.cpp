// cause: none
// ALiBi with distances from key 0, slope j: in a softmax the same as slope (j - p). Windows too,
// and sinks, from which the distance is taken off.
#include "../kernel_parts/varied.h"

struct FromKey0 : Varied {
    float biased(int j, float s) override { return a->alibi_slopes ? s + slope() * (float)j : s; }
    float sink() override {
        return gpt149_sink(a, h) + (a->alibi_slopes ? slope() * (float)position() : 0);
    }
};

GPT149_KERNEL({"slopes_from_key_0", "a row of scores; slopes from key 0", "n_kv", one_row,
               run<FromKey0>, GPT149_ALIBI | GPT149_WINDOW | GPT149_SINKS})
