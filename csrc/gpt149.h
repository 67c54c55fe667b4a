// gpt149.h: the contract between gpt149 and an attention kernel.
//
//   out = softmax(scale * Q K^T + mask) V, for every batch and head
//
// A kernel file includes this header alone, defines the two functions of `gpt149_kernel` and ends
// with GPT149_KERNEL({...}). It needs no torch and no Python; see naive.cpp for the shortest one.
#pragma once

#include <cstdint>

#define GPT149_ABI_VERSION 1

enum gpt149_dtype : int32_t { GPT149_FLOAT32 = 0, GPT149_BFLOAT16 = 1 };

// One call. Shapes: q, out (batch, n_head, n_q, head_dim); k, v (batch, n_kv_head, n_kv, head_dim).
//
// - Causal is aligned to the bottom right: query i sees the keys j <= i + n_kv - n_q. So n_q = n_kv
//   is a prefill, n_q = 1 a decode step. The host guarantees 1 <= n_q <= n_kv when causal.
// - Head h reads the keys of head h / (n_head / n_kv_head); n_kv_head divides n_head.
// - Strides count elements along (batch, head, token); head_dim is contiguous. Tensors are views
//   into larger memory: nothing outside the named elements may be touched.
// - out and workspace arrive uninitialised. workspace is 64-byte aligned and as large as
//   workspace_bytes() said for the same arguments.
// - br x bc is the tile that the user asks for, queries x keys; 0 leaves the choice to the kernel.
struct gpt149_args {
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
};

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
struct gpt149_kernel {
    const char *name;
    const char *idea;   // one line
    const char *memory; // extra memory in big-O, such as "n_q n_kv"
    // Bytes of workspace that run() wants. Called with the pointers NULL.
    int64_t (*workspace_bytes)(const gpt149_args *);
    // NULL, or a static string that says why the kernel declines, before it has written anything.
    // Must be re-entrant: the host may call it from several threads at once, on disjoint heads or
    // batches, with n_threads = 1 and a workspace each.
    const char *(*run)(const gpt149_args *);
    const char *isa = GPT149_ISA; // what this file was built for
};

struct gpt149_table {
    int32_t abi_version, args_size, kernel_size, n_kernels;
    const gpt149_kernel *kernels;
};

// Ends a kernel file: GPT149_KERNEL({"name", "idea", "memory", workspace_bytes, run}), with several
// braces where the file holds several kernels.
#define GPT149_KERNEL(...)                                                                         \
    static const gpt149_kernel gpt149_list[] = {__VA_ARGS__};                                      \
    extern "C" __attribute__((visibility("default"))) const gpt149_table gpt149_kernels = {        \
        GPT149_ABI_VERSION, sizeof(gpt149_args), sizeof(gpt149_kernel),                            \
        sizeof(gpt149_list) / sizeof(gpt149_kernel), gpt149_list};

// The rows of the tensors: head_dim floats each.
inline const float *gpt149_q(const gpt149_args *a, int b, int h, int i) {
    return (const float *)a->q + b * a->q_stride[0] + h * a->q_stride[1] + i * a->q_stride[2];
}
inline const float *gpt149_k(const gpt149_args *a, int b, int h, int j) {
    h /= a->n_head / a->n_kv_head;
    return (const float *)a->k + b * a->k_stride[0] + h * a->k_stride[1] + j * a->k_stride[2];
}
inline const float *gpt149_v(const gpt149_args *a, int b, int h, int j) {
    h /= a->n_head / a->n_kv_head;
    return (const float *)a->v + b * a->v_stride[0] + h * a->v_stride[1] + j * a->v_stride[2];
}
inline float *gpt149_out(const gpt149_args *a, int b, int h, int i) {
    return (float *)a->out + b * a->out_stride[0] + h * a->out_stride[1] + i * a->out_stride[2];
}

// How many keys, counted from the first, query i sees.
inline int gpt149_visible(const gpt149_args *a, int i) {
    return a->causal ? i + a->n_kv - a->n_q + 1 : a->n_kv;
}

// For kernels that read float32 only: `if (const char *why = gpt149_only_float32(a)) return why;`
inline const char *gpt149_only_float32(const gpt149_args *a) {
    bool ok = a->dtype == GPT149_FLOAT32 && a->kv_dtype == GPT149_FLOAT32;
    return ok ? nullptr : "it reads and writes float32 only";
}
