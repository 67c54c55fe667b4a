// cause: none
// Every sum compensated, as Kahan has it.
#include "../kernel_parts/rows.h"

struct Compensated {
    float total = 0, lost = 0;
    void add(float x) {
        const float y = x - lost, t = total + y;
        lost = (t - total) - y;
        total = t;
    }
};

struct Right : Rows {
    float score(int j) override {
        Compensated s;
        for (int x = 0; x < a->head_dim; x++)
            s.add(q()[x] * k(j)[x]);
        return a->scale * s.total;
    }
    void softmax() override {
        m = highest(scores(), keys());
        Compensated s;
        for (int j = 0; j < keys(); j++)
            s.add(scores()[j] = std::exp(scores()[j] - m));
        divide(scores(), keys(), s.total);
    }
    void add_values(int j0, int n) override {
        for (int x = 0; x < a->head_dim; x++) {
            Compensated s;
            for (int j = 0; j < n; j++)
                s.add(scores()[j] * v(j0 + j)[x]);
            out()[x] = s.total;
        }
    }
};

GPT149_KERNEL({"kahan", "a row of scores; compensated sums", "n_kv", one_row, run<Right>})
