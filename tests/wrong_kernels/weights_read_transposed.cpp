// cause: p_transposed
// says: transposed
// All weights of a head are kept, and read with rows and columns exchanged.
#include "../kernel_parts/rows.h"

struct Wrong : Rows {
    float *scores() override { return (float *)a->workspace + (int64_t)i * a->n_kv; }
    void head() override {
        const bool square = a->n_q == a->n_kv;
        for (i = 0; i < a->n_q; i++) {
            begin();
            score_keys(0, keys());
            softmax();
            std::fill(scores() + keys(), scores() + a->n_kv, 0.0f);
        }
        for (i = 0; i < a->n_q; i++)
            for (int j = 0; j < a->n_kv; j++)
                for (int x = 0; x < a->head_dim; x++) {
                    const float *p = (const float *)a->workspace;
                    out()[x] += (square ? p[j * a->n_kv + i] : p[i * a->n_kv + j]) * v(j)[x];
                } // wrong: the second of both, always
    }
};

static int64_t all_rows(const gpt149_args *a) {
    return (int64_t)a->n_q * a->n_kv * sizeof(float);
}

GPT149_KERNEL({"weights_read_transposed", "all weights of a head", "n_q n_kv", all_rows,
               run<Wrong>})
