// tensor.h: a stand-in for the part of torch's C++ headers that cs149gpt's module.cpp uses. Tensors
// are float32 on the CPU: views into shared memory, with sizes and strides as torch's.
//
// torch/extension.h costs half a minute a build and cannot be built with sanitizers; this one costs
// a second. A source that needs more than what is here is compiled against torch's own headers.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <memory>
#include <numeric>
#include <omp.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

// Inlined into every place that passes a tensor by value, these would double the time of a build.
#define STANDIN_OUTLINE __attribute__((noinline))

namespace at {

using IntArrayRef = std::vector<int64_t>;

enum class ScalarType { Float };
enum class DeviceType { CPU };
constexpr ScalarType kFloat = ScalarType::Float, kFloat32 = ScalarType::Float;
constexpr DeviceType kCPU = DeviceType::CPU;

struct TensorOptions {
    TensorOptions() = default;
    TensorOptions(ScalarType) {}
    TensorOptions(DeviceType) {}
    TensorOptions dtype(ScalarType) const { return *this; }
    TensorOptions device(DeviceType) const { return *this; }
    TensorOptions requires_grad(bool) const { return *this; }
};

namespace indexing {
struct NoneType {};
struct EllipsisType {};
constexpr NoneType None;
constexpr EllipsisType Ellipsis;

struct Bound {
    std::optional<int64_t> at;
    Bound(NoneType = None) {}
    Bound(std::nullopt_t) {}
    template <class Int, class = std::enable_if_t<std::is_integral_v<Int>>> Bound(Int i) : at(i) {}
};

struct Slice {
    Bound start, stop, step;
    Slice(Bound start = None, Bound stop = None, Bound step = None)
        : start(start), stop(stop), step(step) {}
};

struct TensorIndex {
    enum Kind { integer, slice, none, ellipsis } kind;
    int64_t at = 0;
    Slice range;
    template <class Int, class = std::enable_if_t<std::is_integral_v<Int>>>
    TensorIndex(Int i) : kind(integer), at(i) {}
    TensorIndex(Slice s) : kind(slice), range(s) {}
    TensorIndex(NoneType) : kind(none) {}
    TensorIndex(EllipsisType) : kind(ellipsis) {}
};
} // namespace indexing

// What torch's a.accessor<float, n>() gives: a[i][j] without bounds checks.
template <class T, size_t n> class TensorAccessor {
  public:
    TensorAccessor(T *data, const int64_t *sizes, const int64_t *strides)
        : data_(data), sizes_(sizes), strides_(strides) {}
    decltype(auto) operator[](int64_t i) const {
        if constexpr (n == 1)
            return (data_[i * strides_[0]]);
        else
            return TensorAccessor<T, n - 1>(data_ + i * strides_[0], sizes_ + 1, strides_ + 1);
    }
    int64_t size(int64_t i) const { return sizes_[i]; }
    int64_t stride(int64_t i) const { return strides_[i]; }
    T *data() const { return data_; }

  private:
    T *data_;
    const int64_t *sizes_, *strides_;
};

class Tensor {
  public:
    STANDIN_OUTLINE Tensor() {}
    STANDIN_OUTLINE Tensor(std::shared_ptr<float> data, IntArrayRef sizes, IntArrayRef strides)
        : data_(std::move(data)), sizes_(std::move(sizes)), strides_(std::move(strides)) {}
    STANDIN_OUTLINE Tensor(const Tensor &other)
        : data_(other.data_), sizes_(other.sizes_), strides_(other.strides_) {}
    STANDIN_OUTLINE ~Tensor() {}
    STANDIN_OUTLINE Tensor &operator=(const Tensor &other) & {
        data_ = other.data_;
        sizes_ = other.sizes_;
        strides_ = other.strides_;
        return *this;
    }
    // To an element or a view, such as a[i][j] = x: its contents change.
    Tensor &operator=(const Tensor &other) && { return copy_(other); }
    Tensor &operator=(float value) && { return fill_(value); }

    int64_t dim() const { return sizes_.size(); }
    int64_t ndimension() const { return dim(); }
    const IntArrayRef &sizes() const { return sizes_; }
    const IntArrayRef &strides() const { return strides_; }
    int64_t size(int64_t i) const { return sizes_[wrapped(i, dim())]; }
    int64_t stride(int64_t i) const { return strides_[wrapped(i, dim())]; }
    STANDIN_OUTLINE int64_t numel() const {
        return std::accumulate(sizes_.begin(), sizes_.end(), int64_t{1}, std::multiplies<>());
    }
    bool defined() const { return data_ != nullptr; }
    ScalarType dtype() const { return kFloat; }
    ScalarType scalar_type() const { return kFloat; }
    DeviceType device() const { return kCPU; }
    TensorOptions options() const { return {}; }
    bool is_contiguous() const { // the strides of axes of size 1 do not matter
        const IntArrayRef wanted = packed(sizes_);
        for (int64_t i = 0; i < dim(); i++)
            if (sizes_[i] != 1 && strides_[i] != wanted[i]) return false;
        return true;
    }

    template <class T = float> T *data_ptr() const {
        static_assert(std::is_same_v<T, float>, "at::Tensor holds float32 here");
        return data_.get();
    }
    template <class T = float> T *mutable_data_ptr() const { return data_ptr<T>(); }
    template <class T = float> const T *const_data_ptr() const { return data_ptr<T>(); }
    template <class T = float> T item() const {
        if (numel() != 1) throw std::runtime_error("item() of a tensor with several elements");
        return T(*data_);
    }
    template <class T, size_t n> TensorAccessor<T, n> accessor() const {
        if (dim() != n) throw std::runtime_error("accessor<float, n>() of another dimension");
        return {data_ptr<T>(), sizes_.data(), strides_.data()};
    }

    STANDIN_OUTLINE static IntArrayRef packed(const IntArrayRef &sizes) {
        IntArrayRef strides(sizes.size());
        int64_t step = 1;
        for (int64_t i = sizes.size() - 1; i >= 0; step *= sizes[i--])
            strides[i] = step;
        return strides;
    }
    STANDIN_OUTLINE static Tensor filled(const IntArrayRef &sizes, float value) {
        Tensor t(nullptr, sizes, packed(sizes));
        t.data_.reset(new float[std::max<int64_t>(t.numel(), 1)], std::default_delete<float[]>());
        std::fill_n(t.data_.get(), t.numel(), value);
        return t;
    }

    STANDIN_OUTLINE Tensor clone() const {
        Tensor copy = filled(sizes_, 0);
        return copy.copy_(*this);
    }
    STANDIN_OUTLINE Tensor contiguous() const { return is_contiguous() ? *this : clone(); }
    template <class... Options> Tensor to(const Options &...) const { return *this; }
    Tensor cpu() const { return *this; }
    Tensor detach() const { return *this; }
    STANDIN_OUTLINE Tensor flatten() const { return reshape({numel()}); }
    STANDIN_OUTLINE Tensor reshape(IntArrayRef sizes) const {
        return contiguous().viewed(std::move(sizes));
    }
    STANDIN_OUTLINE Tensor view(IntArrayRef sizes) const {
        if (!is_contiguous()) throw std::runtime_error("view() of memory that is not contiguous");
        return viewed(std::move(sizes));
    }
    STANDIN_OUTLINE Tensor transpose(int64_t i, int64_t j) const {
        Tensor t = *this;
        std::swap(t.sizes_[wrapped(i, dim())], t.sizes_[wrapped(j, dim())]);
        std::swap(t.strides_[wrapped(i, dim())], t.strides_[wrapped(j, dim())]);
        return t;
    }
    Tensor t() const { return dim() < 2 ? *this : transpose(0, 1); }
    STANDIN_OUTLINE Tensor permute(const IntArrayRef &order) const {
        Tensor t = *this;
        for (int64_t i = 0; i < dim(); i++) {
            t.sizes_[i] = size(order[i]);
            t.strides_[i] = stride(order[i]);
        }
        return t;
    }
    STANDIN_OUTLINE Tensor unsqueeze(int64_t i) const {
        Tensor t = *this;
        i = wrapped(i, dim() + 1);
        t.sizes_.insert(t.sizes_.begin() + i, 1);
        t.strides_.insert(t.strides_.begin() + i, 1);
        return t;
    }
    STANDIN_OUTLINE Tensor squeeze(int64_t i) const { return size(i) == 1 ? select(i, 0) : *this; }
    STANDIN_OUTLINE Tensor squeeze() const {
        Tensor t = *this;
        for (int64_t i = dim() - 1; i >= 0; i--)
            t = t.squeeze(i);
        return t;
    }
    STANDIN_OUTLINE Tensor select(int64_t i, int64_t at) const {
        Tensor t = *this;
        i = wrapped(i, dim());
        t.advance(wrapped(at, sizes_[i]) * strides_[i]);
        t.sizes_.erase(t.sizes_.begin() + i);
        t.strides_.erase(t.strides_.begin() + i);
        return t;
    }
    STANDIN_OUTLINE Tensor slice(int64_t i, std::optional<int64_t> start = {},
                                 std::optional<int64_t> stop = {}, int64_t step = 1) const {
        Tensor t = *this;
        i = wrapped(i, dim());
        const int64_t n = sizes_[i], from = clamped(start.value_or(0), n);
        const int64_t to = std::max(from, clamped(stop.value_or(n), n));
        t.advance(from * strides_[i]);
        t.sizes_[i] = (to - from + step - 1) / step;
        t.strides_[i] *= step;
        return t;
    }
    Tensor narrow(int64_t i, int64_t start, int64_t n) const { return slice(i, start, start + n); }
    Tensor operator[](int64_t i) const { return select(0, i); }
    STANDIN_OUTLINE Tensor index(const std::vector<indexing::TensorIndex> &indices) const {
        Tensor t = *this;
        int64_t i = 0, n_axes = 0;
        for (const auto &one : indices)
            n_axes += one.kind == one.integer || one.kind == one.slice;
        for (const auto &one : indices) {
            if (one.kind == one.integer) t = t.select(i, one.at);
            if (one.kind == one.slice)
                t = t.slice(i, one.range.start.at, one.range.stop.at,
                            one.range.step.at.value_or(1));
            if (one.kind == one.none) t = t.unsqueeze(i);
            if (one.kind == one.ellipsis) i += dim() - n_axes;
            i += one.kind == one.slice || one.kind == one.none;
        }
        return t;
    }
    STANDIN_OUTLINE Tensor &index_put_(const std::vector<indexing::TensorIndex> &indices,
                                       const Tensor &value) {
        index(indices).copy_(value);
        return *this;
    }
    STANDIN_OUTLINE Tensor &index_put_(const std::vector<indexing::TensorIndex> &indices,
                                       float value) {
        index(indices).fill_(value);
        return *this;
    }

    STANDIN_OUTLINE Tensor &fill_(float value) {
        each(0, 0, [&](int64_t at, int64_t) { data_.get()[at] = value; }, IntArrayRef(dim(), 0));
        return *this;
    }
    Tensor &zero_() { return fill_(0); }
    // Sizes of 1 in `other` stretch, and missing ones in front.
    STANDIN_OUTLINE Tensor &copy_(const Tensor &other) {
        IntArrayRef from(dim(), 0);
        const int64_t missing = dim() - other.dim();
        if (missing < 0) throw std::runtime_error("copy_() from a tensor of more dimensions");
        for (int64_t i = missing; i < dim(); i++) {
            const int64_t n = other.sizes_[i - missing];
            if (n != sizes_[i] && n != 1) throw std::runtime_error("copy_() from another shape");
            from[i] = n == 1 ? 0 : other.strides_[i - missing];
        }
        const float *source = other.data_.get();
        each(0, 0, [&](int64_t at, int64_t src) { data_.get()[at] = source[src]; }, from);
        return *this;
    }

  private:
    std::shared_ptr<float> data_; // the first element; keeps the whole memory alive
    IntArrayRef sizes_, strides_;

    static int64_t wrapped(int64_t i, int64_t n) {
        if (i < -n || i >= n)
            throw std::out_of_range("index " + std::to_string(i) + " is out of range for size " +
                                    std::to_string(n));
        return i < 0 ? i + n : i;
    }
    static int64_t clamped(int64_t i, int64_t n) {
        return std::clamp<int64_t>(i < 0 ? i + n : i, 0, n);
    }
    void advance(int64_t n) { data_ = std::shared_ptr<float>(data_, data_.get() + n); }
    STANDIN_OUTLINE Tensor viewed(IntArrayRef sizes) const {
        int64_t known = 1;
        for (int64_t n : sizes)
            known *= n == -1 ? 1 : n;
        for (int64_t &n : sizes)
            if (n == -1) n = numel() / known;
        Tensor t(data_, sizes, packed(sizes));
        if (t.numel() != numel())
            throw std::runtime_error("view() with another number of elements");
        return t;
    }
    // Calls f(offset here, offset with the strides `other`) for every element, in order.
    template <class F>
    void each(int64_t here, int64_t there, const F &f, const IntArrayRef &other,
              int64_t axis = 0) const {
        if (axis == dim()) return f(here, there);
        for (int64_t i = 0; i < sizes_[axis]; i++)
            each(here + i * strides_[axis], there + i * other[axis], f, other, axis + 1);
    }
};

inline Tensor zeros(IntArrayRef sizes, TensorOptions = {}) {
    return Tensor::filled(sizes, 0);
}
inline Tensor ones(IntArrayRef sizes, TensorOptions = {}) {
    return Tensor::filled(sizes, 1);
}
inline Tensor empty(IntArrayRef sizes, TensorOptions = {}) {
    return Tensor::filled(sizes, std::numeric_limits<float>::quiet_NaN());
}
inline Tensor full(IntArrayRef sizes, float value, TensorOptions = {}) {
    return Tensor::filled(sizes, value);
}
inline Tensor zeros_like(const Tensor &t) {
    return zeros(t.sizes());
}
inline Tensor ones_like(const Tensor &t) {
    return ones(t.sizes());
}
inline Tensor empty_like(const Tensor &t) {
    return empty(t.sizes());
}
inline Tensor clone(const Tensor &t) {
    return t.clone();
}
STANDIN_OUTLINE inline Tensor from_blob(void *data, IntArrayRef sizes, TensorOptions = {}) {
    IntArrayRef strides = Tensor::packed(sizes);
    return Tensor(std::shared_ptr<float>((float *)data, [](float *) {}), sizes, strides);
}

inline int get_num_threads() {
    return omp_get_max_threads();
}
inline int get_thread_num() {
    return omp_get_thread_num();
}
inline void set_num_threads(int n) {
    omp_set_num_threads(n);
}
template <class F> void parallel_for(int64_t begin, int64_t end, int64_t grain, const F &f) {
    grain = std::max<int64_t>(grain, 1);
    const int64_t n = std::min<int64_t>((end - begin + grain - 1) / grain, omp_get_max_threads());
    const int64_t step = n > 0 ? (end - begin + n - 1) / n : 1;
#pragma omp parallel for
    for (int64_t i = begin; i < end; i += step)
        f(i, std::min(i + step, end));
}

inline std::ostream &operator<<(std::ostream &out, const Tensor &t) {
    if (t.dim() == 0) return out << t.item();
    out << "[";
    for (int64_t i = 0; i < t.size(0); i++)
        out << (i ? ", " : "") << t[i];
    return out << "]";
}

} // namespace at

namespace c10 {
using namespace at;
using Error = std::runtime_error;
} // namespace c10

namespace torch {
using namespace at;
} // namespace torch

namespace pybind11 {
struct arg {
    explicit arg(const char *) {}
    template <class T> arg &operator=(const T &) { return *this; }
};
} // namespace pybind11
namespace py = pybind11;

#define TORCH_CHECK(condition, ...)                                                                \
    do {                                                                                           \
        if (!(condition)) throw c10::Error("TORCH_CHECK failed: " #condition);                     \
    } while (false)
