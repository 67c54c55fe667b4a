// call.h: a call of a kernel, read from standard input, with every tensor in an allocation of
// exactly its size. For runner.cpp and judge.cpp; written by gpt149/check/elsewhere.py.
#pragma once

#include "gpt149.h"

#include <cstdio> // few headers: a runner is compiled for each kernel that crashes
#include <cstdlib>
#include <cstring>
#ifdef __linux__
#include <csignal>
#include <sys/prctl.h>
#endif

extern "C" const gpt149_table gpt149_kernels; // the kernel file's

namespace gpt149_runner {

// Before each case: what is asked.
struct Head {
    char name[48];
    uint32_t needs;   // of gpt149_feature
    int32_t at_once;  // heads apart, all at the same time
    int32_t repeats;  // of a call that is not judged
    int32_t unused;   // 64 bytes with it
    gpt149_args args; // in which pointers to what the call has are not NULL
};

enum Status { FINE = 0, NOT_THERE = 3, DECLINED = 4 };

// Exactly n floats: allocations of other sizes would hide the first step outside. NULL for none.
struct Memory {
    const int64_t n;
    float *const at;

    explicit Memory(int64_t n) : n(n), at(n ? (float *)std::malloc(n * sizeof(float)) : nullptr) {
        poison();
    }
    Memory(const Memory &) = delete;
    ~Memory() { std::free(at); }

    void poison() {
        if (at) std::memset(at, 0xff, n * sizeof(float)); // NaN
    }
    float *receive() {
        if (at && std::fread(at, sizeof(float), n, stdin) != (size_t)n) std::exit(NOT_THERE);
        return at;
    }
};

// Floats from the first to the last element of a tensor of rows of `width`.
inline int64_t span(int batch, int n_head, int n, int width, const int64_t *stride, int32_t dtype) {
    const int64_t n_elements =
        (batch - 1) * stride[0] + (n_head - 1) * stride[1] + (n - 1) * stride[2] + width;
    return dtype == GPT149_BFLOAT16 ? (n_elements + 1) / 2 : n_elements; // two in the room of one
}

inline int64_t lse_span(const gpt149_args &a) {
    const int64_t stride[] = {a.lse_stride[0], a.lse_stride[1], 1};
    return a.lse ? span(a.batch, a.n_head, a.n_q, 1, stride, GPT149_FLOAT32) : 0;
}

class Call {
  public:
    gpt149_args a;

    // Its inputs are read, in the order of the struct, each from its first to its last element.
    explicit Call(const gpt149_args &args)
        : a(args), d_v(gpt149_head_dim_v(&a)),
          q(span(a.batch, a.n_head, a.n_q, a.head_dim, a.q_stride, a.dtype)),
          k(span(a.batch, a.n_kv_head, a.n_kv, a.head_dim, a.k_stride, a.kv_dtype)),
          v(span(a.batch, a.n_kv_head, a.n_kv, d_v, a.v_stride, a.kv_dtype)),
          alibi_slopes(a.alibi_slopes ? a.n_head : 0), sinks(a.sinks ? a.n_head : 0),
          kv_begin(a.kv_begin ? a.batch : 0),
          out(span(a.batch, a.n_head, a.n_q, d_v, a.out_stride, a.dtype)), lse(lse_span(a)) {
        a.q = q.receive(), a.k = k.receive(), a.v = v.receive();
        a.alibi_slopes = alibi_slopes.receive(), a.sinks = sinks.receive();
        a.kv_begin = (const int32_t *)kv_begin.receive();
        a.out = out.at, a.lse = lse.at;
    }

    // Why the kernel declines, or NULL.
    const char *run(const gpt149_kernel &kernel, int n_threads) {
        out.poison(), lse.poison();
        a.n_threads = n_threads;
        return run(kernel, a);
    }

    // The same call, a key head with its queries at a time, all at once.
    const char *run_heads_at_once(const gpt149_kernel &kernel) const {
        const char *declined = nullptr;
        const int group = a.n_head / a.n_kv_head;
#pragma omp parallel for num_threads(a.n_kv_head) schedule(static, 1)
        for (int i = 0; i < a.n_kv_head; i++) {
            const int h = i * group;
            gpt149_args one = a;
            one.n_head = group, one.n_kv_head = one.n_threads = 1;
            one.q = gpt149_q(&a, 0, h, 0), one.out = gpt149_out(&a, 0, h, 0);
            one.k = gpt149_k(&a, 0, h, 0), one.v = gpt149_v(&a, 0, h, 0);
            if (a.alibi_slopes) one.alibi_slopes = a.alibi_slopes + h;
            if (a.sinks) one.sinks = a.sinks + h;
            if (a.lse) one.lse = gpt149_lse(&a, 0, h, 0);
            if (const char *why = run(kernel, one)) {
#pragma omp critical
                declined = why;
            }
        }
        return declined;
    }

  private:
    const int d_v;
    Memory q, k, v, alibi_slopes, sinks, kv_begin, out, lse;

    static const char *run(const gpt149_kernel &kernel, gpt149_args call) {
        gpt149_args bare = call;
        bare.q = bare.k = bare.v = bare.out = bare.workspace = nullptr;
        bare.alibi_slopes = bare.sinks = bare.lse = nullptr, bare.kv_begin = nullptr;
        const int64_t n_bytes = kernel.workspace_bytes(&bare); // exactly as many, too
        void *workspace;
        if (posix_memalign(&workspace, 64, n_bytes > 0 ? n_bytes : 1) != 0) std::exit(NOT_THERE);
        std::memset(workspace, 0xff, n_bytes);
        call.workspace = workspace;
        const char *why = kernel.run(&call);
        std::free(workspace);
        return why;
    }
};

// The kernel of this name in the table, or the end of the process.
inline const gpt149_kernel &find(const char *name) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); // who waits for us may be killed
#endif
    for (int i = 0; i < gpt149_kernels.n_kernels; i++)
        if (std::strcmp(gpt149_kernels.kernels[i].name, name) == 0)
            return gpt149_kernels.kernels[i];
    std::exit(NOT_THERE);
}

} // namespace gpt149_runner
