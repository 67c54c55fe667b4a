// cause: none
// out is the weighted mean of the values so far, and each key moves it towards its own: nothing is
// divided in the end. What it rounds is of the size of V, which shows where the mean is small.
#include "../kernel_parts/rows.h"

struct Right : Rows {
    void row() override {
        begin();
        for (int j = 0; j < keys(); j++) {
            const float s = score(j), *value = v(j);
            const float rise = std::fmax(s - m, 0.0f), top = std::fmax(s, m);
            l = (j ? l * std::exp(-rise) : 0) + std::exp(s - top);
            m = top;
            const float share = std::exp(s - m) / l;
            for (int x = 0; x < a->head_dim; x++)
                out()[x] += share * (value[x] - out()[x]);
        }
    }
};

GPT149_KERNEL({"running_mean", "out is the mean so far", "1", no_bytes, run<Right>})
