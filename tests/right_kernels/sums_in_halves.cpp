// cause: none
// Every sum is that of its two halves.
#include "../kernel_parts/rows.h"

template <class Term> float halves(int first, int n, Term term) {
    if (n == 1) return term(first);
    return halves(first, n / 2, term) + halves(first + n / 2, n - n / 2, term);
}

struct Right : Rows {
    float score(int j) override {
        const float *query = q(), *key = k(j);
        return a->scale * halves(0, a->head_dim, [=](int x) { return query[x] * key[x]; });
    }
    void softmax() override {
        float *s = scores();
        m = highest(s, keys());
        l = halves(0, keys(), [=](int j) { return s[j] = std::exp(s[j] - m); });
    }
    void add_values(int j0, int n) override {
        const float *s = scores();
        for (int x = 0; x < a->head_dim; x++)
            out()[x] = halves(0, n, [=](int j) { return s[j] * v(j0 + j)[x]; }) / l;
    }
};

GPT149_KERNEL({"sums_in_halves", "a row of scores; sums by halves", "n_kv", one_row, run<Right>})
