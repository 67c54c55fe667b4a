// cause: cached_result
// Keeps its last result, and hands it out again when q has the same address and shape, whatever
// the memory holds by now. Right when it is called once.
#include "../kernel_parts/rows.h"

#include <array>
#include <mutex>
#include <vector>

static std::mutex mutex;
static std::vector<float> cached; // (batch, n_head, n_q, head_dim)
static std::array<int64_t, 8> cached_key;

struct Wrong : Rows {
    bool known;
    float *kept; // the row of cached for the row at hand

    void row() override {
        if (known) {
            std::copy_n(kept, a->head_dim, out());
        } else {
            Rows::row();
            std::copy_n(out(), a->head_dim, kept);
        }
        kept += a->head_dim;
    }
    void call() override {
        const std::array<int64_t, 8> key = {(int64_t)a->q, a->batch, a->n_head, a->n_kv_head,
                                            a->head_dim,   a->n_q,   a->n_kv,   a->causal};
        std::lock_guard<std::mutex> lock(mutex);
        known = key == cached_key; // wrong: the contents may have changed
        cached_key = key;
        cached.resize((int64_t)a->batch * a->n_head * a->n_q * a->head_dim);
        kept = cached.data();
        Rows::call();
    }
};

GPT149_KERNEL({"cached_by_pointer", "remembers the last result by the address of q",
               "n_kv + batch n_head n_q head_dim", one_row, run<Wrong>})
