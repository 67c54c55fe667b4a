// judge: calls a kernel on cases and says of each what became of it, where there is no Python.
//
// Linked with a kernel file, whose table it reads.
// Arguments: the kernel's name. Standard input: cases, see call.h, behind each what it should give.
// Standard output: `isa NAME`; `case NAME` before each case; then `right NAME`, `declined NAME:
// why` or `wrong NAME: where`, and `bits NAME: ...` where they depend on the number of threads.
#include "call.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace gpt149_runner {

constexpr int TEAMS[] = {1, 2, 5}; // besides the case's own n_threads

// A value's place.
struct Place {
    int b, h, i;

    Place(const gpt149_args &a, int64_t row)
        : b(row / a.n_q / a.n_head), h(row / a.n_q % a.n_head), i(row % a.n_q) {}
};

static int64_t n_rows(const gpt149_args &a) {
    return (int64_t)a.batch * a.n_head * a.n_q;
}

// out as float32 (rows, d_v), behind it lse (rows,) if there is one.
static std::vector<float> given(const gpt149_args &a) {
    const int d_v = gpt149_head_dim_v(&a);
    const int64_t rows = n_rows(a);
    std::vector<float> values(rows * d_v), scratch(d_v);
    for (int64_t r = 0; r < rows; r++) {
        const Place p(a, r);
        const float *row = gpt149_out(&a, p.b, p.h, p.i);
        std::copy_n(gpt149_load(a.dtype, row, d_v, scratch.data()), d_v, values.data() + r * d_v);
    }
    for (int64_t r = 0; a.lse && r < rows; r++) {
        const Place p(a, r);
        values.push_back(*gpt149_lse(&a, p.b, p.h, p.i));
    }
    return values;
}

static std::vector<double> read(int64_t n) {
    std::vector<double> numbers(n);
    if (std::fread(numbers.data(), sizeof(double), n, stdin) != (size_t)n) std::exit(NOT_THERE);
    return numbers;
}

// What a case should give, as check/judge.py works it out: want and tolerance as `given`; common:
// the largest relative error that a row of out may share, (rows,).
struct Expected {
    const int64_t rows, d_v;
    const std::vector<double> want, tolerance, common;

    explicit Expected(const gpt149_args &a)
        : rows(n_rows(a)), d_v(gpt149_head_dim_v(&a)), want(read(rows * (d_v + !!a.lse))),
          tolerance(read(rows * (d_v + !!a.lse))), common(read(rows)) {}

    // The first value that is wrong; as many as there are if none is.
    int64_t first_wrong(const std::vector<float> &values) const {
        for (int64_t r = 0; r < rows; r++) {
            double least = -common[r],
                   most = common[r]; // factors 1 + f that explain the row so far
            for (int64_t at = r * d_v; at < (r + 1) * d_v; at++) {
                const double w = want[at], t = tolerance[at], off = values[at] - w;
                if (!(std::fabs(off) <= t + common[r] * std::fabs(w))) return at;
                if (w == 0) continue;
                least = std::max(least, (off - std::copysign(t, w)) / w);
                most = std::min(most, (off + std::copysign(t, w)) / w);
                if (least > most) return at;
            }
        }
        for (int64_t at = rows * d_v; at < (int64_t)want.size(); at++)
            if (values[at] != want[at] && !(std::fabs(values[at] - want[at]) <= tolerance[at]))
                return at;
        return want.size();
    }

    // Says what is wrong, if anything is.
    bool judge(const gpt149_args &a, const std::vector<float> &values, const char *name) const {
        const int64_t at = first_wrong(values);
        if (at == (int64_t)want.size()) return true;
        const bool of_out = at < rows * d_v;
        const Place p(a, of_out ? at / d_v : at - rows * d_v);
        std::printf("wrong %s: with %d threads, first %s (batch %d, head %d, query %d", name,
                    a.n_threads, of_out ? "at" : "lse of", p.b, p.h, p.i);
        if (of_out) std::printf(", dim %d", (int)(at % d_v));
        std::printf("): got %g, want %g\n", values[at], want[at]);
        return false;
    }
};

// Runs the case with several teams.
static void judge(const gpt149_kernel &kernel, Call &call, const Expected &expected,
                  const char *name) {
    const int own = call.a.n_threads;
    if (const char *why = call.run(kernel, own)) {
        std::printf("declined %s: %s\n", name, why);
        return;
    }
    const std::vector<float> first = given(call.a);
    if (!expected.judge(call.a, first, name)) return;
    for (int n_threads : TEAMS) {
        call.run(kernel, n_threads);
        const std::vector<float> values = given(call.a);
        if (!expected.judge(call.a, values, name)) return;
        if (std::memcmp(first.data(), values.data(), values.size() * sizeof(float)) != 0)
            std::printf("bits %s: %d threads give others than %d\n", name, n_threads, own);
    }
    std::printf("right %s\n", name);
}

} // namespace gpt149_runner

int main(int, char **argv) {
    using namespace gpt149_runner;
    const gpt149_kernel &kernel = find(argv[1]);
    std::setvbuf(stdout, nullptr, _IONBF, 0); // what a crash leaves is whole
    std::printf("isa %s\n", gpt149_kernels.isa);
    Head head;
    while (std::fread(&head, sizeof head, 1, stdin) == 1) {
        Call call(head.args);
        const Expected expected(call.a);
        if (head.needs & ~kernel.features) continue;
        std::printf("case %s\n", head.name);
        judge(kernel, call, expected, head.name);
    }
    return FINE;
}
