// adapter: a plain function of attention as a kernel of the contract in gpt149.h.
//
// The function has fixed ideas: contiguous tensors, a mask or none, its own scale, often n_q =
// n_kv. Calls beyond them are made of calls within them, exactly:
// - another scale is put into Q, and grouped heads are copied out;
// - n_q < n_kv causal: rows of zeros stand for the queries before;
// - a mask that the function does not have, or none where it has one: a call for each query, whose
//   last row sees n keys, masked or not.
//
// Built with, from gpt149/kernels/signatures.py: FUNCTION its name, ARGUMENTS of a call `c`, FILE
// (of C++, included behind this code) or PROTOTYPE (of C), and what is below.
#include "gpt149.h"
#include "omp_team.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace function {

constexpr bool takes_causal = TAKES_CAUSAL, takes_scale = TAKES_SCALE, is_causal = IS_CAUSAL;
constexpr bool square = IS_SQUARE, grouped = IS_GROUPED, gives_lse = GIVES_LSE;
constexpr bool has_batch = HAS_BATCH, has_heads = HAS_HEADS, token_major = TOKEN_MAJOR;
constexpr int usual_tile = 32;         // where a call leaves it to the kernel
constexpr float own_scale = OWN_SCALE; // 0: 1 / sqrt(head_dim)

struct Call {
    float *q, *k, *v, *out, *lse;
    int batch, n_head, n_kv_head, n_q, n_kv, n, head_dim;
    float scale;
    bool causal;
    int n_threads, br, bc;
};

int call(const Call &c); // what the function returns; 0 if nothing

// A tensor of n tokens in the function's layout, (b, h, n, d) or (b, n, h, d): the host's own
// memory where that is laid out so, else a copy of it.
class Packed {
  public:
    Packed(const gpt149_args *a, int heads, int n, const void *host, const int64_t *stride)
        : heads_(heads), n_(n), width_(a->head_dim), data((float *)host) {
        const int64_t token = token_major ? heads_ * width_ : width_;
        const int64_t head = token_major ? width_ : n_ * width_;
        const bool same = host && (n == 1 || stride[2] == token) &&
                          (heads == 1 || stride[1] == head) &&
                          (a->batch == 1 || stride[0] == heads_ * n_ * width_);
        own = !same;
        if (own) memory_.resize(a->batch * heads_ * n_ * width_), data = memory_.data();
    }
    float *row(int b, int h, int i) {
        return data +
               (token_major ? (b * n_ + i) * heads_ + h : (b * heads_ + h) * n_ + i) * width_;
    }

  private:
    int64_t heads_, n_, width_;
    std::vector<float> memory_;

  public:
    float *data;
    bool own;
};

// One call of the function, or one for each batch, or head, that it has no parameter for.
int over_batches(Call c, int batch, int heads, int kv_heads) {
    const int64_t q_size = (int64_t)c.n_q * c.head_dim, kv_size = (int64_t)c.n_kv * c.head_dim;
    int times = 1;
    c.batch = batch, c.n_head = heads, c.n_kv_head = kv_heads;
    if (!has_batch && token_major)
        times = batch, c.batch = 1;
    else if (!has_heads && !has_batch)
        times = batch * heads, c.batch = c.n_head = c.n_kv_head = 1;
    else if (!has_heads)
        c.batch *= heads, c.n_head = c.n_kv_head = 1;
    else if (!has_batch)
        c.n_head *= batch, c.n_kv_head *= batch, c.batch = 1;
    const int per_call = c.batch * c.n_head, kv_per_call = c.batch * c.n_kv_head;
    for (int t = 0; t < times; t++) {
        if (const int failed = call(c)) return failed;
        c.q += per_call * q_size, c.out += per_call * q_size;
        c.k += kv_per_call * kv_size, c.v += kv_per_call * kv_size;
        c.lse += (int64_t)per_call * c.n_q;
    }
    return 0;
}

// Rows i0..i0+rows of out, their queries at `first` of n_q, the others zeros, over n keys.
int attend(const gpt149_args *a, int i0, int rows, int first, int n_q, int n, bool causal) {
    const int d = a->head_dim, group = a->n_head / a->n_kv_head;
    const int kv_heads = grouped ? a->n_kv_head : a->n_head;
    const float own = own_scale > 0 ? own_scale : 1 / std::sqrt((float)d);
    const float ratio = takes_scale ? 1 : a->scale / own;
    const float factor = std::fabs(ratio - 1) < 1e-6f ? 1 : ratio;
    const bool all = rows == n_q, as_is = all && factor == 1, as_many = kv_heads == a->n_kv_head;
    Packed q(a, a->n_head, n_q, as_is ? gpt149_q(a, 0, 0, i0) : nullptr, a->q_stride);
    Packed k(a, kv_heads, n, as_many && n == a->n_kv ? a->k : nullptr, a->k_stride);
    Packed v(a, kv_heads, n, as_many && n == a->n_kv ? a->v : nullptr, a->v_stride);
    Packed out(a, a->n_head, n_q, all ? gpt149_out(a, 0, 0, i0) : nullptr, a->out_stride);
    std::vector<float> lse(gives_lse ? (size_t)a->batch * a->n_head * n_q : 0);
    for (int b = 0; b < a->batch; b++) {
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < n_q; i++) {
                if (out.own) std::fill_n(out.row(b, h, i), d, NAN); // what is not written shows
                if (!q.own || i < first || i >= first + rows) continue;
                const float *from = gpt149_q(a, b, h, i0 + i - first);
                std::transform(from, from + d, q.row(b, h, i), [=](float x) { return x * factor; });
            }
        for (int h = 0; h < kv_heads; h++)
            for (int j = 0; j < n; j++) {
                const int of = grouped ? h * group : h; // a head of q that reads it
                if (k.own) std::copy_n(gpt149_k(a, b, of, j), d, k.row(b, h, j));
                if (v.own) std::copy_n(gpt149_v(a, b, of, j), d, v.row(b, h, j));
            }
    }
    const adapters::Team team(a->n_threads);
    const Call c = {q.data,
                    k.data,
                    v.data,
                    out.data,
                    lse.data(),
                    0,
                    0,
                    0,
                    n_q,
                    n,
                    n,
                    d,
                    a->scale,
                    causal,
                    a->n_threads,
                    a->br > 0 ? a->br : usual_tile,
                    a->bc > 0 ? a->bc : usual_tile};
    if (const int failed = over_batches(c, a->batch, a->n_head, kv_heads)) return failed;
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < rows; i++) {
                if (out.own) std::copy_n(out.row(b, h, first + i), d, gpt149_out(a, b, h, i0 + i));
                const int64_t row = ((int64_t)b * a->n_head + h) * n_q + first + i;
                if (gives_lse && a->lse) *gpt149_lse(a, b, h, i0 + i) = lse[row];
            }
    return 0;
}

int attend_all(const gpt149_args *a) {
    const int n_q = a->n_q, n_kv = a->n_kv;
    const bool whole = !square && (!a->causal || n_q == 1);
    if (whole && (takes_causal || !is_causal)) return attend(a, 0, n_q, 0, n_q, n_kv, false);
    if (a->causal && (takes_causal || is_causal))
        return attend(a, 0, n_q, n_kv - n_q, n_kv, n_kv, true);
    const bool with_mask = !takes_causal && is_causal;
    if (!a->causal && !with_mask) { // square
        for (int i = 0, failed; i < n_q; i += n_kv)
            if ((failed = attend(a, i, std::min(n_kv, n_q - i), 0, n_kv, n_kv, false)))
                return failed;
        return 0;
    }
    for (int i = 0, failed; i < n_q; i++) {
        const int n = a->causal ? gpt149_visible(a, i) : n_kv, rows = square || with_mask ? n : 1;
        if ((failed = attend(a, i, 1, rows - 1, rows, n, with_mask))) return failed;
    }
    return 0;
}

int64_t workspace_bytes(const gpt149_args *) {
    return 0;
}

const char *run(const gpt149_args *a) {
    static std::mutex one_at_a_time; // nobody promised that such a function may be called twice
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    return attend_all(a) ? "the function returns another number than 0" : nullptr;
}

} // namespace function

GPT149_KERNEL({NAME, "a function of attention: " READ_AS, "of its own", function::workspace_bytes,
               function::run, GIVES_LSE ? GPT149_LSE : 0})

#ifdef PROTOTYPE
extern "C" PROTOTYPE;
#else
#include FUNCTION_FILE
#endif

int function::call(const Call &c) {
#if RETURNS_INT
    return FUNCTION(ARGUMENTS);
#else
    FUNCTION(ARGUMENTS);
    return 0;
#endif
}
