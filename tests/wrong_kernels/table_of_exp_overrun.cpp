// cause: reads_outside
// says: table_of_exp_overrun.cpp:
// exp by a table, in which negative numbers are looked up before its beginning.
#include "../kernel_parts/rows.h"

static const int STEPS = 256;
struct Table {
    float of[STEPS];
    Table() {
        for (int n = 0; n < STEPS; n++)
            of[n] = std::exp2((float)n / STEPS);
    }
};
static const Table table;

struct Wrong : Rows {
    void softmax() override {
        m = highest(scores(), keys());
        for (int j = 0; j < keys(); j++) {
            const float x = (scores()[j] - m) * 1.44269504f;
            const int n = (int)(std::fmax(x, -100.0f) * STEPS);
            scores()[j] = std::ldexp(table.of[n % STEPS], n / STEPS); // wrong: n % STEPS is < 0
            l += scores()[j];
        }
        divide(scores(), keys(), l);
    }
};

GPT149_KERNEL({"table_of_exp_overrun", "a row of scores; exp by a table", "n_kv", one_row,
               run<Wrong>})
