// cause: none
// Right; computes in double, and rounds to float at the end.
#include "../kernel_parts/rows.h"

static int64_t workspace_bytes(const gpt149_args *a) {
    return ((int64_t)a->n_kv + a->head_dim) * sizeof(double);
}

struct Right : Rows {
    void row() override {
        double *s = (double *)a->workspace, *acc = s + a->n_kv; // (n_kv), (head_dim)
        double highest = -INFINITY, total = 0;
        for (int j = 0; j < keys(); j++) {
            const float *query = q(), *key = k(j);
            s[j] = 0;
            for (int x = 0; x < a->head_dim; x++)
                s[j] += (double)query[x] * key[x];
            highest = std::fmax(highest, s[j] *= a->scale);
        }
        for (int j = 0; j < keys(); j++)
            total += s[j] = std::exp(s[j] - highest);
        std::fill_n(acc, a->head_dim, 0.0);
        for (int j = 0; j < keys(); j++) {
            const float *value = v(j);
            for (int x = 0; x < a->head_dim; x++)
                acc[x] += s[j] / total * value[x];
        }
        std::copy_n(acc, a->head_dim, out());
    }
};

GPT149_KERNEL({"double_inside", "a row of scores in double", "n_kv + head_dim", workspace_bytes,
               run<Right>})
