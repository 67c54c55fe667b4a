// runner: calls a kernel on the cases that come in, in a process of its own, with every tensor in
// an allocation of exactly its size. For the sanitizers, whose reports carry the kernel's own file
// and line, and for machines that have no Python, where it judges what the kernel gives.
//
// Built with -DKERNEL_FILE="...": the kernel's source is part of this translation unit.
// Arguments: the kernel's name. Standard input: cases, each a Head and its inputs in the order of
// gpt149_args, from their first to their last element; where it is judged, what it should give.
// Written by gpt149/check/elsewhere.py.
#include <algorithm> // before the kernel, whose macros they may not survive
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>
#ifdef __linux__
#include <csignal>
#include <sys/prctl.h>
#endif

#include KERNEL_FILE

namespace gpt149_runner {
struct Head {
    char name[48];
    uint32_t needs; // of gpt149_feature
    int32_t judged;
    int32_t at_once;  // heads apart, each in a thread of its own
    int32_t repeats;  // of a call that is not judged
    gpt149_args args; // in which pointers to what the call has are not NULL
};

struct Free {
    void operator()(void *memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<float[], Free>;

enum Status { FINE = 0, NOT_THERE = 3, DECLINED = 4 };
constexpr int TEAMS[] = {1, 2, 5}; // besides the case's own n_threads

// Floats from the first to the last element of a tensor of rows of `width`.
static int64_t span(int batch, int n_head, int n, int width, const int64_t *stride, int32_t dtype) {
    const int64_t n_elements =
        (batch - 1) * stride[0] + (n_head - 1) * stride[1] + (n - 1) * stride[2] + width;
    return dtype == GPT149_BFLOAT16 ? (n_elements + 1) / 2 : n_elements; // two in the room of one
}

static void poison(float *memory, int64_t n) {
    std::memset(memory, 0xff, n * sizeof(float)); // NaN
}

// Exactly n floats: allocations of other sizes would hide the first step outside.
static Memory allocate(int64_t n) {
    Memory memory((float *)std::malloc(n * sizeof(float)));
    poison(memory.get(), n);
    return memory;
}

template <typename T> static std::vector<T> read(int64_t n) {
    std::vector<T> numbers(n);
    if (std::fread(numbers.data(), sizeof(T), n, stdin) != (size_t)n) std::exit(NOT_THERE);
    return numbers;
}

// A case: its call, and the memory of that.
class Call {
  public:
    explicit Call(const gpt149_args &args)
        : a(args), d_v(gpt149_head_dim_v(&a)), rows((int64_t)a.batch * a.n_head * a.n_q) {
        a.q = receive(span(a.batch, a.n_head, a.n_q, a.head_dim, a.q_stride, a.dtype));
        a.k = receive(span(a.batch, a.n_kv_head, a.n_kv, a.head_dim, a.k_stride, a.kv_dtype));
        a.v = receive(span(a.batch, a.n_kv_head, a.n_kv, d_v, a.v_stride, a.kv_dtype));
        if (a.alibi_slopes) a.alibi_slopes = receive(a.n_head);
        if (a.sinks) a.sinks = receive(a.n_head);
        if (a.kv_begin) a.kv_begin = (const int32_t *)receive(a.batch);
        out_floats = span(a.batch, a.n_head, a.n_q, d_v, a.out_stride, a.dtype);
        a.out = (out = allocate(out_floats)).get();
        const int64_t lse_stride[] = {a.lse_stride[0], a.lse_stride[1], 1};
        lse_floats = span(a.batch, a.n_head, a.n_q, 1, lse_stride, GPT149_FLOAT32);
        if (a.lse) a.lse = (lse = allocate(lse_floats)).get();
    }

    // Why the kernel declines, or NULL.
    const char *run(const gpt149_kernel &kernel, int n_threads) {
        poison(out.get(), out_floats);
        if (lse) poison(lse.get(), lse_floats);
        a.n_threads = n_threads;
        return run(kernel, a);
    }

    // The same call, a key head with its queries at a time, all at once.
    const char *run_heads_at_once(const gpt149_kernel &kernel) const {
        std::vector<std::thread> threads;
        std::atomic<const char *> declined{nullptr};
        for (int h = 0; h < a.n_head; h += a.n_head / a.n_kv_head)
            threads.emplace_back([&, h] {
                gpt149_args one = a;
                one.n_head = a.n_head / a.n_kv_head, one.n_kv_head = one.n_threads = 1;
                one.q = gpt149_q(&a, 0, h, 0), one.out = gpt149_out(&a, 0, h, 0);
                one.k = gpt149_k(&a, 0, h, 0), one.v = gpt149_v(&a, 0, h, 0);
                if (a.alibi_slopes) one.alibi_slopes = a.alibi_slopes + h;
                if (a.sinks) one.sinks = a.sinks + h;
                if (a.lse) one.lse = gpt149_lse(&a, 0, h, 0);
                if (const char *why = run(kernel, one)) declined = why;
            });
        for (std::thread &thread : threads)
            thread.join();
        return declined;
    }

    // What it gave: (rows, d_v), and of lse (rows,).
    std::vector<float> values() const {
        std::vector<float> found(rows * d_v), scratch(d_v);
        for (int64_t r = 0; r < rows; r++) {
            const int i = r % a.n_q, h = r / a.n_q % a.n_head, b = r / a.n_q / a.n_head;
            std::copy_n(gpt149_load(a.dtype, gpt149_out(&a, b, h, i), d_v, scratch.data()), d_v,
                        found.data() + r * d_v);
        }
        return found;
    }
    std::vector<float> sums() const {
        std::vector<float> found(lse ? rows : 0);
        for (size_t r = 0; r < found.size(); r++)
            found[r] = *gpt149_lse(&a, r / a.n_q / a.n_head, r / a.n_q % a.n_head, r % a.n_q);
        return found;
    }

    gpt149_args a;
    const int d_v;
    const int64_t rows;

  private:
    std::vector<Memory> inputs;
    Memory out, lse;
    int64_t out_floats, lse_floats;

    static const char *run(const gpt149_kernel &kernel, gpt149_args call) {
        gpt149_args bare = call;
        bare.q = bare.k = bare.v = bare.out = bare.workspace = nullptr;
        bare.alibi_slopes = bare.sinks = bare.lse = nullptr, bare.kv_begin = nullptr;
        const int64_t n_bytes = kernel.workspace_bytes(&bare); // exactly as many, too
        if (posix_memalign(&call.workspace, 64, n_bytes > 0 ? n_bytes : 1) != 0)
            std::exit(NOT_THERE);
        const std::unique_ptr<void, Free> workspace(call.workspace);
        std::memset(call.workspace, 0xff, n_bytes);
        return kernel.run(&call);
    }

    const float *receive(int64_t n) {
        inputs.push_back(allocate(n));
        float *memory = inputs.back().get();
        if (std::fread(memory, sizeof(float), n, stdin) != (size_t)n) std::exit(NOT_THERE);
        return memory;
    }
};

// What a case should give, as check/judge.py works it out: float64 (rows, d_v), of lse (rows,).
struct Expected {
    std::vector<double> want, tolerance, common, lse, lse_tolerance;

    explicit Expected(const Call &c)
        : want(read<double>(c.rows * c.d_v)), tolerance(read<double>(c.rows * c.d_v)),
          common(read<double>(c.rows)), lse(read<double>(c.a.lse ? c.rows : 0)),
          lse_tolerance(read<double>(c.a.lse ? c.rows : 0)) {}

    // The first value of a row that no factor 1 + f, |f| <= common, explains; d_v if none.
    int wrong_in_row(const float *out, int64_t row, int d_v) const {
        double least = -common[row], most = common[row];
        for (int x = 0; x < d_v; x++) {
            const double w = want[row * d_v + x], t = tolerance[row * d_v + x], off = out[x] - w;
            if (!(std::fabs(off) <= t + common[row] * std::fabs(w))) return x;
            if (w == 0) continue;
            least = std::max(least, (off - std::copysign(t, w)) / w);
            most = std::min(most, (off + std::copysign(t, w)) / w);
            if (least > most) return x;
        }
        return d_v;
    }

    // Says what is wrong, if anything is.
    bool judge(const Call &c, const char *name) const {
        const std::vector<float> out = c.values(), sums = c.sums();
        for (int64_t r = 0; r < c.rows; r++) {
            const int i = r % c.a.n_q, h = r / c.a.n_q % c.a.n_head, b = r / c.a.n_q / c.a.n_head;
            const int x = wrong_in_row(out.data() + r * c.d_v, r, c.d_v);
            if (x < c.d_v) {
                std::printf("wrong %s: with %d threads, first at (batch %d, head %d, query %d, dim "
                            "%d): got %g, want %g\n",
                            name, c.a.n_threads, b, h, i, x, out[r * c.d_v + x],
                            want[r * c.d_v + x]);
                return false;
            }
            if (sums.empty() || sums[r] == lse[r]) continue;
            if (!(std::fabs(sums[r] - lse[r]) <= lse_tolerance[r])) {
                std::printf("wrong %s: with %d threads, lse of (batch %d, head %d, query %d): got "
                            "%g, want %g\n",
                            name, c.a.n_threads, b, h, i, sums[r], lse[r]);
                return false;
            }
        }
        return true;
    }
};

static bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Runs the case with several teams, and tells whether each is right, and the same to the bit.
static void judge(const gpt149_kernel &kernel, Call &call, const Expected &expected,
                  const char *name) {
    const int own = call.a.n_threads;
    if (const char *why = call.run(kernel, own)) {
        std::printf("declined %s: %s\n", name, why);
        return;
    }
    if (!expected.judge(call, name)) return;
    const std::vector<float> out = call.values(), sums = call.sums();
    for (int n_threads : TEAMS) {
        call.run(kernel, n_threads);
        if (!expected.judge(call, name)) return;
        if (!same_bits(out, call.values()) || !same_bits(sums, call.sums()))
            std::printf("bits %s: %d threads give others than %d\n", name, n_threads, own);
    }
    std::printf("right %s\n", name);
}

static int run(const char *name) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); // who waits for us may be killed
#endif
    const gpt149_kernel *const first = gpt149_kernels.kernels;
    const gpt149_kernel *const end = first + gpt149_kernels.n_kernels;
    const auto named = [&](const gpt149_kernel &k) { return std::strcmp(k.name, name) == 0; };
    const gpt149_kernel *const kernel = std::find_if(first, end, named);
    if (kernel == end) return NOT_THERE;
    std::setvbuf(stdout, nullptr, _IONBF, 0); // what a crash leaves is whole
    std::printf("isa %s\n", kernel->isa);
    Head head;
    while (std::fread(&head, sizeof head, 1, stdin) == 1) {
        Call call(head.args);
        if (!head.judged) {
            const char *why = nullptr;
            for (int i = 0; i < head.repeats && !why; i++)
                why = head.at_once ? call.run_heads_at_once(*kernel)
                                   : call.run(*kernel, head.args.n_threads);
            if (why) std::fprintf(stderr, "declined: %s\n", why);
            return why ? DECLINED : FINE;
        }
        const Expected expected(call);
        if (head.needs & ~kernel->features) continue;
        std::printf("case %s\n", head.name);
        judge(*kernel, call, expected, head.name);
    }
    return FINE;
}
} // namespace gpt149_runner

int main(int, char **argv) {
    return gpt149_runner::run(argv[1]);
}
