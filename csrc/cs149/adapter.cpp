// adapter: a module.cpp of cs149gpt, unmodified, as kernels of the contract in gpt149.h.
//
// Those functions are square (n_q = n_kv = N), unmasked and unscaled. They are exact here all the
// same: Q is scaled before the call, and the last row of a call with N = t is the causal answer for
// token t, whatever the other rows of Q are (zeros). So a causal call is one call a query, and a
// prefill of T tokens costs O(T^3).
//
// Built with -DMODULE_FILE="...": the module is part of this translation unit, between this code
// and what must see its functions. Headers of torch come from standin/, or from torch itself.
#include "gpt149.h"
#include "omp_team.h"

#include <torch/extension.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <omp.h>
#include <utility>
#include <vector>

namespace cs149 {

using torch::Tensor;

// Calls a function of type F with the first of these tensors, then the first of these numbers.
template <class F, class Tensors, class Numbers> struct Caller;
template <class T, size_t> using repeated = T;
template <class F, size_t... t, size_t... n>
struct Caller<F, std::index_sequence<t...>, std::index_sequence<n...>> {
    static constexpr bool fits =
        std::is_invocable_r_v<Tensor, F, repeated<Tensor &, t>..., repeated<int &, n>...>;
    static Tensor call(void (*f)(), Tensor *tensors, int *numbers) {
        return ((F)f)(tensors[t]..., numbers[n]...);
    }
};

// A function that the module binds, its type erased.
struct Function {
    const char *name;
    void (*pointer)();
    Tensor (*call)(void (*pointer)(), Tensor *tensors, int *numbers);
};

// Takes the place of pybind11's module object: keeps the functions that are attention.
struct Bindings {
    std::vector<Function> functions;
    const char *text = "";
    const char *&doc() { return text; }
    template <class F, class... Extra> Bindings &def(const char *name, F f, const Extra &...) {
        using Square = Caller<F, std::make_index_sequence<4>, std::make_index_sequence<4>>;
        using Tiled = Caller<F, std::make_index_sequence<14>, std::make_index_sequence<6>>;
        if constexpr (std::is_class_v<F>)
            def(name, +f); // a lambda, as a function pointer
        else if constexpr (Square::fits)
            functions.push_back({name, (void (*)())f, Square::call});
        else if constexpr (Tiled::fits)
            functions.push_back({name, (void (*)())f, Tiled::call});
        return *this;
    }
};
const Bindings &bindings();

enum Part { naive = 1, blocked, fused, flash };
constexpr const char *FUNCTIONS[] = {"", "myNaiveAttention", "myUnfusedAttentionBlocked",
                                     "myFusedAttention", "myFlashAttention"};
constexpr int DEFAULT_TILE = 256; // what cs149gpt passes as Br and Bc
constexpr int64_t LEAST_ROWS = 8; // its temporary of part 3 is made for 8 threads

using Shape = std::vector<int64_t>;

int tile(int asked) {
    return asked > 0 ? asked : DEFAULT_TILE;
}

// The temporaries that cs149gpt passes after Q, K and V, in the order of the arguments.
std::vector<Shape> temporaries(Part part, const gpt149_args *a, int64_t n) {
    const int64_t br = tile(a->br), bc = tile(a->bc), d = a->head_dim;
    if (part == fused) return {{std::max<int64_t>(LEAST_ROWS, a->n_threads), n}};
    if (part != flash) return {{n, n}};
    return {{br, d}, {bc, d}, {bc, d}, {br, bc}, {br, bc}, {br, d}, {br, d}, {n}, {br}, {br}, {br}};
}

int64_t numel(const Shape &shape) {
    int64_t n = 1;
    for (int64_t size : shape)
        n *= size;
    return n;
}

template <Part part> int64_t workspace_bytes(const gpt149_args *a) {
    int64_t n = 0;
    for (const Shape &shape : temporaries(part, a, a->n_kv))
        n += numel(shape);
    return n * sizeof(float);
}

Tensor tensor(float *data, const Shape &shape) {
    return torch::from_blob(data, shape, torch::TensorOptions().dtype(torch::kFloat32));
}

const Function *function(Part part) {
    for (const Function &f : bindings().functions)
        if (std::strcmp(f.name, FUNCTIONS[part]) == 0) return &f;
    return nullptr;
}

// The module's function on tensors of n tokens; q, k, v (batch, n_head, n, head_dim).
Tensor call(Part part, const gpt149_args *a, int n, std::vector<float> &q, std::vector<float> &k,
            std::vector<float> &v) {
    const Shape shape = {a->batch, a->n_head, n, a->head_dim};
    std::vector<Tensor> tensors = {tensor(q.data(), shape), tensor(k.data(), shape),
                                   tensor(v.data(), shape)};
    float *place = (float *)a->workspace;
    for (const Shape &temporary : temporaries(part, a, n)) {
        std::fill_n(place, numel(temporary), 0.0f); // cs149gpt promises zeros
        tensors.push_back(tensor(place, temporary));
        place += numel(temporary);
    }
    std::vector<int> numbers = {a->batch, a->n_head, n, a->head_dim};
    if (part == flash) numbers.insert(numbers.begin(), {tile(a->bc), tile(a->br)});
    const Function *f = function(part);
    return f->call(f->pointer, tensors.data(), numbers.data());
}

// Rows i0..i0+rows of out, from one call with n tokens; q's rows are put at `first`.
const char *attend(Part part, const gpt149_args *a, int n, int i0, int rows, int first) {
    const int d = a->head_dim;
    const auto at = [&](int b, int h, int i) { return (((int64_t)b * a->n_head + h) * n + i) * d; };
    const int64_t size = at(a->batch, 0, 0);
    std::vector<float> q(size), k(size), v(size);
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++) {
            for (int i = 0; i < rows; i++)
                for (int x = 0; x < d; x++)
                    q[at(b, h, first + i) + x] = a->scale * gpt149_q(a, b, h, i0 + i)[x];
            for (int j = 0; j < n; j++) {
                std::copy_n(gpt149_k(a, b, h, j), d, &k[at(b, h, j)]);
                std::copy_n(gpt149_v(a, b, h, j), d, &v[at(b, h, j)]);
            }
        }
    const Tensor result = call(part, a, n, q, k, v).contiguous();
    if (result.numel() != size) return "it returns a tensor that is not (B, H, N, d)";
    for (int b = 0; b < a->batch; b++)
        for (int h = 0; h < a->n_head; h++)
            for (int i = 0; i < rows; i++)
                std::copy_n(result.data_ptr<float>() + at(b, h, first + i), d,
                            gpt149_out(a, b, h, i0 + i));
    return nullptr;
}

template <Part part> const char *run(const gpt149_args *a) {
    if (!function(part))
        return "the module binds no function of this name with the published parameters";
    static std::mutex one_at_a_time; // cs149gpt never calls twice at once, so nothing is promised
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    const adapters::Team team(a->n_threads);
    const char *why = nullptr;
    if (a->causal)
        for (int i = 0; i < a->n_q && !why; i++)
            why = attend(part, a, gpt149_visible(a, i), i, 1, gpt149_visible(a, i) - 1);
    else
        for (int i = 0; i < a->n_q && !why; i += a->n_kv)
            why = attend(part, a, a->n_kv, i, std::min(a->n_kv, a->n_q - i), 0);
    return why;
}

} // namespace cs149

GPT149_KERNEL({"myNaiveAttention", "part 1 of cs149gpt: square, unmasked, unscaled", "n_kv n_kv",
               cs149::workspace_bytes<cs149::naive>, cs149::run<cs149::naive>},
              {"myUnfusedAttentionBlocked", "part 2 of cs149gpt: square, unmasked, unscaled",
               "n_kv n_kv", cs149::workspace_bytes<cs149::blocked>, cs149::run<cs149::blocked>},
              {"myFusedAttention", "part 3 of cs149gpt: square, unmasked, unscaled",
               "n_threads n_kv", cs149::workspace_bytes<cs149::fused>, cs149::run<cs149::fused>},
              {"myFlashAttention", "part 4 of cs149gpt: square, unmasked, unscaled",
               "br bc + (br + bc) head_dim + n_kv", cs149::workspace_bytes<cs149::flash>,
               cs149::run<cs149::flash>})

#undef PYBIND11_MODULE
#define PYBIND11_MODULE(name, m) static void cs149_bind(cs149::Bindings &m)
PYBIND11_MODULE(, m);

#include MODULE_FILE

namespace cs149 {

const Bindings &bindings() {
    static const Bindings bound = [] {
        Bindings b;
        cs149_bind(b);
        return b;
    }();
    return bound;
}

// The accessors are not bound, or not all: found by name, if the module has them.
template <class Floats>
auto read(Floats &t, int *i, const int *n, float *value, int)
    -> decltype(float(fourDimRead(t, i[0], i[1], i[2], i[3], n[1], n[2], n[3])), true) {
    *value = fourDimRead(t, i[0], i[1], i[2], i[3], n[1], n[2], n[3]);
    return true;
}
template <class Floats> bool read(Floats &, int *, const int *, float *, long) {
    return false;
}

template <class Floats>
auto write(Floats &t, int *i, const int *n, float &x, int)
    -> decltype(fourDimWrite(t, i[0], i[1], i[2], i[3], n[1], n[2], n[3], x), true) {
    fourDimWrite(t, i[0], i[1], i[2], i[3], n[1], n[2], n[3], x);
    return true;
}
template <class Floats> bool write(Floats &, int *, const int *, float &, long) {
    return false;
}

} // namespace cs149

// What fourDimRead gives at an index of a tensor of these extents; 0 if there is none that takes
// the assignment's parameters.
extern "C" __attribute__((visibility("default"))) int
cs149_read(const float *memory, int64_t n, const int *index, const int *extents, float *value) {
    std::vector<float> t(memory, memory + n);
    int i[] = {index[0], index[1], index[2], index[3]};
    return cs149::read(t, i, extents, value, 0);
}

// Lets fourDimWrite put a value into a copy of memory, and copies it back; 0 if there is none.
extern "C" __attribute__((visibility("default"))) int
cs149_write(float *memory, int64_t n, const int *index, const int *extents, float value) {
    std::vector<float> t(memory, memory + n);
    int i[] = {index[0], index[1], index[2], index[3]};
    const bool there = cs149::write(t, i, extents, value, 0);
    std::copy(t.begin(), t.end(), memory);
    return there;
}
