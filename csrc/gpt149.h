// gpt149.h: the contract between gpt149 and an attention kernel.
//
//   out = softmax(scale * Q K^T + mask) V, for every batch and head
//
// A kernel file, C11 or C++17, includes this header alone, defines the two functions of
// `gpt149_kernel` and ends with GPT149_KERNEL({...}). It needs no torch and no Python; see
// naive.cpp for the shortest one. gpt149.rs and gpt149.zig say the same for Rust and Zig.
#pragma once

#include <stdint.h>

#if defined(__clang__) // which warns where it does not follow `omp simd`; that is a hint
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

#define GPT149_ABI_VERSION 3

#ifdef __cplusplus
#define GPT149_DEFAULT(value) = value
#define GPT149_EXPORT extern "C" __attribute__((visibility("default")))
#else // C initialises what a list leaves out to 0
#define GPT149_DEFAULT(value)
#define GPT149_EXPORT __attribute__((visibility("default")))
#endif

enum gpt149_dtype { GPT149_FLOAT32 = 0, GPT149_BFLOAT16 = 1 };

// Variants of attention, and types, that a kernel may claim: see gpt149_kernel. What it does not
// claim, no call asks of it.
enum gpt149_feature {
    GPT149_WINDOW = 1,
    GPT149_SOFTCAP = 2,
    GPT149_ALIBI = 4,
    GPT149_SINKS = 8,
    GPT149_KV_BEGIN = 16,
    GPT149_HEAD_DIM_V = 32,
    GPT149_LSE = 64,
    GPT149_KV_BFLOAT16 = 128, // kv_dtype
    GPT149_Q_BFLOAT16 = 256,  // dtype
};

// One call. Shapes: q (batch, n_head, n_q, head_dim), k (batch, n_kv_head, n_kv, head_dim); out and
// v likewise, with rows of head_dim_v where that is not 0.
//
// - Causal is aligned to the bottom right: query i sees the keys j <= i + n_kv - n_q. So n_q = n_kv
//   is a prefill, n_q = 1 a decode step. The host guarantees 1 <= n_q <= n_kv when causal.
// - Head h reads the keys of head h / (n_head / n_kv_head); n_kv_head divides n_head.
// - Strides count elements along (batch, head, token); head_dim is contiguous. Tensors are views
//   into larger memory: nothing outside the named elements may be touched.
// - out and workspace arrive uninitialised. workspace is 64-byte aligned and as large as
//   workspace_bytes() said for the same arguments.
// - br x bc is the tile that the user asks for, queries x keys; 0 leaves the choice to the kernel.
typedef struct gpt149_args {
    int32_t abi_version, struct_size;
    int32_t dtype, kv_dtype; // gpt149_dtype of q and out, of k and v
    int32_t causal, n_threads;
    int32_t batch, n_head, n_kv_head, head_dim, n_q, n_kv;
    int32_t br, bc;
    float scale;
    const void *q, *k, *v;
    void *out, *workspace;
    void *stream; // for devices that queue work; NULL on a CPU
    int64_t q_stride[3], k_stride[3], v_stride[3], out_stride[3];

    // Variants; 0 or NULL where a call has none, as it always is for who claims none. Below, query
    // i stands at position p = i + n_kv - n_q, and s is its score scale * q k with key j.
    int32_t window;            // causal calls: it sees the keys p - window < j <= p alone
    int32_t head_dim_v;        // of v and out, where it differs from head_dim
    float softcap;             // s = softcap tanh(s / softcap), before anything is added
    const float *alibi_slopes; // (n_head): s += slope (j - p)
    const float *sinks;        // (n_head): one more score for the softmax, which has no value
    const int32_t *kv_begin;   // (batch): 0 to n_kv; keys before it are hidden from all queries
    float *lse;                // (batch, n_head, n_q), to write: log of the sum of exp(s), sink too
    int64_t lse_stride[2];     // along (batch, head)
    // A query from which every key is hidden gets zeros, and with no sink an lse of -INFINITY.
} gpt149_args;

#if defined(__AVX512F__)
#define GPT149_ISA "avx512"
#elif defined(__AVX2__) && defined(__FMA__)
#define GPT149_ISA "avx2"
#elif defined(__ARM_NEON)
#define GPT149_ISA "neon"
#else
#define GPT149_ISA "portable"
#endif

// What a kernel says of itself; said nowhere else.
typedef struct gpt149_kernel {
    const char *name;
    const char *idea;   // one line
    const char *memory; // extra memory in big-O, such as "n_q n_kv"
    // Bytes of workspace that run() wants. Called with the pointers NULL.
    int64_t (*workspace_bytes)(const gpt149_args *);
    // NULL, or a static string that says why the kernel declines, before it has written anything.
    // Must be re-entrant: the host may call it from several threads at once, on disjoint heads or
    // batches, with n_threads = 1 and a workspace each.
    const char *(*run)(const gpt149_args *);
    // Of gpt149_feature, what run() computes. The host declines every call that needs more.
    uint32_t features GPT149_DEFAULT(0);
} gpt149_kernel;

// What a library exports as `gpt149_kernels`. isa: what it was built for.
typedef struct gpt149_table {
    int32_t abi_version, args_size, kernel_size, n_kernels;
    const gpt149_kernel *kernels;
    const char *isa;
} gpt149_table;

// Ends a kernel file: GPT149_KERNEL({"name", "idea", "memory", workspace_bytes, run}), behind run
// its features such as GPT149_WINDOW | GPT149_LSE, if any (C warns unless there is at least a 0);
// with several braces where the file holds several kernels.
#define GPT149_KERNEL(...)                                                                         \
    static const gpt149_kernel gpt149_list[] = {__VA_ARGS__};                                      \
    GPT149_EXPORT const gpt149_table gpt149_kernels = {                                            \
        GPT149_ABI_VERSION,    sizeof(gpt149_args),                                                \
        sizeof(gpt149_kernel), sizeof(gpt149_list) / sizeof(gpt149_kernel),                        \
        gpt149_list,           GPT149_ISA};

// Where row i of a tensor is. Strides count elements, of 4 bytes or of 2.
static inline void *gpt149_row(const void *tensor, int32_t dtype, const int64_t *stride, int b,
                               int h, int i) {
    const int64_t at = b * stride[0] + h * stride[1] + i * stride[2];
    return (char *)tensor + (dtype == GPT149_BFLOAT16 ? 2 : 4) * at;
}

// The rows of the tensors. Where they are bfloat16, see gpt149_load and gpt149_store.
static inline const float *gpt149_q(const gpt149_args *a, int b, int h, int i) {
    return (const float *)gpt149_row(a->q, a->dtype, a->q_stride, b, h, i);
}
static inline const float *gpt149_k(const gpt149_args *a, int b, int h, int j) {
    h /= a->n_head / a->n_kv_head;
    return (const float *)gpt149_row(a->k, a->kv_dtype, a->k_stride, b, h, j);
}
static inline const float *gpt149_v(const gpt149_args *a, int b, int h, int j) {
    h /= a->n_head / a->n_kv_head;
    return (const float *)gpt149_row(a->v, a->kv_dtype, a->v_stride, b, h, j);
}
static inline float *gpt149_out(const gpt149_args *a, int b, int h, int i) {
    return (float *)gpt149_row(a->out, a->dtype, a->out_stride, b, h, i);
}
static inline float *gpt149_lse(const gpt149_args *a, int b, int h, int i) {
    return a->lse + b * a->lse_stride[0] + h * a->lse_stride[1] + i;
}
static inline int gpt149_head_dim_v(const gpt149_args *a) {
    return a->head_dim_v ? a->head_dim_v : a->head_dim;
}

// Query i of batch b sees the keys gpt149_first .. gpt149_visible - 1, if that is any.
static inline int gpt149_visible(const gpt149_args *a, int i) {
    return a->causal ? i + a->n_kv - a->n_q + 1 : a->n_kv;
}
static inline int gpt149_first(const gpt149_args *a, int b, int i) {
    const int begin = a->kv_begin ? a->kv_begin[b] : 0;
    const int window = a->window ? gpt149_visible(a, i) - a->window : 0;
    return begin > window ? begin : window;
}

// The score of query i with key j, from their dot product: scale, softcap and slope.
static inline float gpt149_score(const gpt149_args *a, int h, int i, int j, float dot) {
    float s = a->scale * dot;
    if (a->softcap > 0) s = a->softcap * __builtin_tanhf(s / a->softcap);
    if (a->alibi_slopes) s += a->alibi_slopes[h] * (float)(j - (i + a->n_kv - a->n_q));
    return s;
}
static inline float gpt149_sink(const gpt149_args *a, int h) { // exp of it is 0 where there is none
    return a->sinks ? a->sinks[h] : -__builtin_inff();
}

// n numbers of a row as floats: the row itself, or a copy in scratch where it is bfloat16.
static inline const float *gpt149_load(int32_t dtype, const float *row, int n, float *scratch) {
    if (dtype == GPT149_FLOAT32) return row;
    for (int x = 0; x < n; x++) {
        const uint32_t bits = (uint32_t)((const uint16_t *)row)[x] << 16;
        __builtin_memcpy(scratch + x, &bits, sizeof bits);
    }
    return scratch;
}

// The reverse, rounded to nearest, ties to even.
static inline void gpt149_store(int32_t dtype, float *row, int n, const float *from) {
    for (int x = 0; x < n; x++) {
        uint32_t bits;
        __builtin_memcpy(&bits, from + x, sizeof bits);
        if (dtype == GPT149_FLOAT32)
            row[x] = from[x];
        else // a NaN stays one
            ((uint16_t *)row)[x] =
                from[x] != from[x] ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
}

// Of ABI version 1, whose kernels declined by themselves; always NULL where they claim no bfloat16.
static inline const char *gpt149_only_float32(const gpt149_args *a) {
    return a->dtype || a->kv_dtype ? "it reads and writes float32 only" : 0;
}
