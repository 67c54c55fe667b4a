// simd, decode: lanes are head_dim, or keys.
//
// Up to NARROW rows that read the same keys (queries of a group's heads) take each row of K and V
// through registers once: bound by bytes. The keys are split into runs of SPLIT, so that a few
// heads feed many threads; runs are merged by their m and l (FlashDecoding, Dao et al. 2023). What
// comes from memory is prefetched: left to itself, the CPU starts anew every 4 KB. bfloat16 is
// widened as it is read.
#include "simd_plan.h"

constexpr float SLACK = 16;       // of a score over m: 2^16
constexpr int AHEAD = 16;         // keys, of what comes from memory
constexpr int64_t FAR = 64 << 10; // floats of K: no L2 keeps it and V for the next token

// Two vectors of a row: of bfloat16 the even elements, then the odd ones, which takes two
// instructions where widening takes six.
static inline void load_two(const float *at, Vector (&two)[2]) {
    two[0] = load(at), two[1] = load(at + LANES);
}

static inline void load_two(const bfloat16 *at, Vector (&two)[2]) {
    Bits pairs;
    std::memcpy(&pairs, at, sizeof pairs);
    two[0] = (Vector)(pairs << 16), two[1] = (Vector)(pairs & 0xffff0000);
}

// Calls f(x, y) for the d elements of a row: y is where load_two puts element x.
template <typename T, typename F> static void each_place(int d, F f) {
    const int split = sizeof(T) == 2 ? d / (2 * LANES) * 2 * LANES : 0;
    for (int two = 0; two < split; two += 2 * LANES)
        for (int i = 0; i < LANES; i++) {
            f(two + 2 * i, two + i);
            f(two + 2 * i + 1, two + LANES + i);
        }
    for (int x = split; x < d; x++)
        f(x, x);
}

// q . k for LANES keys, q in its places and padded with zeros; row(i): the i-th. VECTORS_OF:
// head_dim / LANES where that is whole and known ahead, else 0. DISTANT: K comes from memory.
template <int VECTORS_OF, bool DISTANT, typename Row>
[[gnu::always_inline]] static inline Vector dots_of_group(const float *q, Row row, int64_t stride,
                                                          int head_dim) {
    const int whole = VECTORS_OF ? VECTORS_OF : head_dim / LANES;
    const int rest = VECTORS_OF ? 0 : head_dim % LANES;
    Vector acc[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        const auto *at = row(i);
        if (DISTANT) prefetch((const uint8_t *)(at + AHEAD * stride), head_dim * sizeof *at);
        acc[i] = Vector{};
#pragma GCC unroll 4
        for (int x = 0; x + 2 <= whole; x += 2) {
            Vector two[2];
            load_two(at + x * LANES, two);
            const Vector product = load(q + x * LANES) * two[0];
            acc[i] = x == 0 ? product : acc[i] + product;
            acc[i] += load(q + x * LANES + LANES) * two[1];
        }
        const int last = whole - whole % 2;
        if (whole % 2) acc[i] += load(q + last * LANES) * load(at + last * LANES);
        if (rest) acc[i] += load(q + whole * LANES) * load_some(at + whole * LANES, rest);
    }
    return sums(acc);
}

// s[j] = q . k_j for n keys; behind them, to a whole vector, the last again.
template <int VECTORS_OF, bool DISTANT, typename T>
static void dots(const float *q, const T *k, int64_t stride, int n, int head_dim, float *s) {
    for (int j = 0; j < n; j += LANES) {
        const int from = std::min(j, n - LANES); // some keys twice, at the end
        const auto row = [=](int i) { return k + (from + i) * stride; };
        store(s + from, dots_of_group<VECTORS_OF, DISTANT>(q, row, stride, head_dim));
    }
    for (int j = n; j % LANES; j++)
        s[j] = s[n - 1];
}

// The same for n < LANES.
template <typename T>
static void few_dots(const float *q, const T *k, int64_t stride, int n, int head_dim, float *s) {
    const auto row = [=](int i) { return k + std::min(i, n - 1) * stride; };
    store(s, dots_of_group<0, false>(q, row, stride, head_dim));
}

// o += sum over n keys of p[j] v_j, for W vectors of head_dim from x on, by twos if there are two.
template <int W, bool DISTANT, typename T>
static void add_rows(const float *p, const T *v, int64_t stride, int n, float *o) {
    constexpr int CHAINS = 4; // keys at once, so that sums wait less for themselves
    Vector acc[CHAINS][W] = {};
    const auto add = [&](int j, Vector(&to)[W]) __attribute__((always_inline)) {
        const T *row = v + j * stride;
        if (DISTANT) prefetch((const uint8_t *)(row + AHEAD * stride), W * LANES * sizeof(T));
        if constexpr (W == 1)
            to[0] += p[j] * load(row);
        else
            for (int w = 0; w < W; w += 2) {
                Vector two[2];
                load_two(row + w * LANES, two);
                to[w] += p[j] * two[0], to[w + 1] += p[j] * two[1];
            }
    };
    int j = 0;
    for (; j + CHAINS <= n; j += CHAINS)
        for (int c = 0; c < CHAINS; c++)
            add(j + c, acc[c]);
    for (; j < n; j++)
        add(j, acc[0]);
    for (int w = 0; w < W; w++)
        store(o + w * LANES,
              load(o + w * LANES) + ((acc[0][w] + acc[1][w]) + (acc[2][w] + acc[3][w])));
}

template <typename T, bool DISTANT>
static void attend_rows(const Plan &plan, const Item &it, float *scratch) {
    const gpt149_args *a = plan.a;
    const int d = a->head_dim, padded = plan.padded(), whole = d / LANES * LANES;
    const auto score = d == 2 * LANES   ? dots<2, DISTANT, T>
                       : d == 4 * LANES ? dots<4, DISTANT, T>
                       : d == 5 * LANES ? dots<5, DISTANT, T>
                       : d == 6 * LANES ? dots<6, DISTANT, T>
                       : d == 8 * LANES ? dots<8, DISTANT, T>
                                        : dots<0, DISTANT, T>;
    // (NARROW, padded), (NARROW, padded), (CHUNK)
    float *q = scratch, *o = q + NARROW * padded, *s = o + NARROW * padded;
    const float scale = a->scale * LOG2E;
    float m[NARROW], *to[NARROW];
    Vector l[NARROW]; // to be summed
    int visible[NARROW];
    plan.each_row(it, [&](int r, int head, int query) {
        const float *row = gpt149_q(a, it.batch, head, query);
        std::fill_n(q + r * padded, padded, 0.0f);
        each_place<T>(d, [&](int x, int y) { q[r * padded + y] = row[x] * scale; });
        to[r] = plan.target(it, r, head, query);
        visible[r] = plan.visible(it, query);
        m[r] = NEVER, l[r] = Vector{};
    });
    std::fill_n(o, it.n_rows * padded, 0.0f);

    for (int j = it.begin; j < it.end; j += CHUNK) {
        const T *k = plan.k<T>(it, j), *v = plan.v<T>(it, j);
        for (int r = 0; r < it.n_rows; r++) { // the first row brings K and V into the cache
            const int n = std::min(CHUNK, visible[r] - j);
            if (n <= 0) continue;
            (n < LANES ? few_dots<T> : score)(q + r * padded, k, a->k_stride[2], n, d, s);
            float *row = o + r * padded;
            Vector most = splat(NEVER);
            for (int i = 0; i < n; i += LANES)
                most = larger(most, load(s + i));
            const float rise = largest(most);
            if (rise > m[r] + SLACK) { // seldom, so nothing waits for the maximum
                const Vector shrink = exp2(splat(m[r] - rise));
                m[r] = rise;
                l[r] = l[r] * shrink;
                for (int x = 0; x < padded; x += LANES)
                    store(row + x, load(row + x) * shrink);
            }
            for (int i = 0; i < n; i += LANES) {
                const Vector p = exp2(load(s + i) - m[r]);
                store(s + i, p);
                l[r] += i + LANES > n ? load_some(s + i, n - i) : p;
            }
            int x = 0;
            for (; x + 4 * LANES <= d; x += 4 * LANES)
                add_rows<4, DISTANT>(s, v + x, a->v_stride[2], n, row + x);
            for (; x + 2 * LANES <= d; x += 2 * LANES)
                add_rows<2, DISTANT>(s, v + x, a->v_stride[2], n, row + x);
            for (; x < whole; x += LANES)
                add_rows<1, DISTANT>(s, v + x, a->v_stride[2], n, row + x);
            for (int i = 0; whole < d && i < n; i++)
                store(row + whole, load(row + whole) +
                                       s[i] * load_some(v + i * a->v_stride[2] + whole, d - whole));
        }
    }
    for (int r = 0; r < it.n_rows; r++) {
        const bool share = plan.splits > 1;
        const float total = sum(l[r]), shrink = share ? 1 : 1 / total;
        each_place<T>(d, [&](int x, int y) { to[r][x] = shrink * o[r * padded + y]; });
        if (share) to[r][d] = m[r], to[r][d + 1] = total;
    }
}

void simd_decode(const Plan &plan, const Item &it, float *scratch) {
    const gpt149_args *a = plan.a;
    const bool half = a->kv_dtype == GPT149_BFLOAT16; // comes fast enough by itself
    const bool distant = (int64_t)a->batch * a->n_kv_head * a->n_kv * a->head_dim >= FAR;
    const auto attend = half      ? attend_rows<bfloat16, false>
                        : distant ? attend_rows<float, true>
                                  : attend_rows<float, false>;
    attend(plan, it, scratch);
}
