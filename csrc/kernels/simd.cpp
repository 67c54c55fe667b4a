// simd: flash attention built from the registers up.
//
// Two micro-kernels for two shapes of work: many queries against the same keys, where arithmetic
// is the bound (simd_prefill.cpp), and few rows, where reading K and V is (simd_decode.cpp). This
// file shares the work out to threads and merges what decode splits.
//
// How a head's work is split depends on its own shape alone: any number of threads, and any other
// heads and sequences in the call, give the same bits.
//
// Bottleneck: the FMA units; exp2, which shares them, is most of what keeps a long prefill from
// their peak. Decode: memory.
#include "simd_plan.h"

#include <omp.h>

constexpr int64_t ALONE = 40000; // multiplications: below, waking other threads takes longer

// A row's output from its shares, each weighed by 2^m.
static void merge(const Plan &plan, int unit, int row) {
    const int d = plan.d_v;
    const Item it = plan.rows_of(unit, row, 1, 0);
    float *shares = plan.share(it.row, 0), m = NEVER, l = 0;
    for (int s = 0; s < plan.splits; s++)
        m = std::max(m, plan.share(it.row, s)[d]);
    for (int s = 0; s < plan.splits; s++)
        l += exp2(splat(plan.share(it.row, s)[d] - m))[0] * plan.share(it.row, s)[d + 1];
    const float shrink = plan.ends ? plan.finish(it.batch, it.head, it.query, m, l) : 1 / l;
    for (int s = 0; s < plan.splits; s++) { // the sum in the place of the first
        const float *share = plan.share(it.row, s);
        const float weight = exp2(splat(share[d] - m))[0] * shrink;
        for (int x = 0; x < d; x++)
            shares[x] = weight * share[x] + (s > 0 ? shares[x] : 0);
    }
    gpt149_store(plan.a->dtype, gpt149_out(plan.a, it.batch, it.head, it.query), d, shares);
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return Plan(a).floats() * sizeof(float);
}

// A thread takes consecutive items, a head's together, of about the same cost in all.
static void attend_items(const Plan &plan, int64_t total, int thread, int n_threads) {
    const auto attend = plan.few ? simd_decode : simd_prefill;
    float *scratch = (float *)plan.a->workspace + thread * plan.thread_floats();
    int64_t before = 0;
    for (int64_t i = 0; i < plan.n_items(); i++) {
        const Item item = plan.item(i);
        const int64_t cost = plan.cost(item), middle = before + cost / 2;
        if (middle * n_threads / total == thread) attend(plan, item, scratch);
        before += cost;
    }
}

static const char *run(const gpt149_args *a) {
    const Plan plan(a);
    const int64_t n_rows = plan.splits > 1 ? (int64_t)plan.units * plan.rows : 0; // to merge
    int64_t total = 0;
    for (int64_t i = 0; i < plan.n_items(); i++)
        total += plan.cost(plan.item(i));
    if (a->n_threads == 1 || total < ALONE) { // a parallel region of one costs system calls
        attend_items(plan, total, 0, 1);
        for (int64_t i = 0; i < n_rows; i++)
            merge(plan, i / plan.rows, i % plan.rows);
        return nullptr;
    }
#pragma omp parallel num_threads(a->n_threads)
    {
        attend_items(plan, total, omp_get_thread_num(), omp_get_num_threads());
        if (n_rows > 0) {
#pragma omp barrier
#pragma omp for schedule(static)
            for (int64_t i = 0; i < n_rows; i++)
                merge(plan, i / plan.rows, i % plan.rows);
        }
    }
    return nullptr;
}

GPT149_KERNEL({"simd", "flash on register-blocked micro-kernels, lanes over queries; split decode",
               "n_threads br (bc + head_dim) + 64 br head_dim", workspace_bytes, run,
               GPT149_WINDOW | GPT149_SOFTCAP | GPT149_ALIBI | GPT149_SINKS | GPT149_KV_BEGIN |
                   GPT149_HEAD_DIM_V | GPT149_LSE | GPT149_KV_BFLOAT16 | GPT149_Q_BFLOAT16})
