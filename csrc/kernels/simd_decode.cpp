// simd, decode: few rows against many keys, bound by bytes.
//
// Up to LANES rows that read the same keys (a query or a few of every head of a group) are a tile,
// and K and V pass through registers once for all of them. A vector's lanes are rows times G
// elements of head_dim: one row takes a vector for itself, eight rows take two elements each.
//
//   scores          K is read in place, G elements repeated over the rows, times Q packed the same
//                   way; G keys' lanes are summed within their G, and make one vector of scores.
//   softmax         lane-wise: what it keeps of a row (maximum m, sum l) stands in G lanes.
//   values          lanes are head_dim: rows of V times weights, up to four rows at once.
//   maximum         a row's m follows its scores only when they pass it by SLACK, so that nothing
//                   waits for it.
//
// The keys are split into shares, so that a few heads feed many threads; shares are merged by
// their m and l (FlashDecoding, Dao et al. 2023). What comes from memory is prefetched: left to
// itself, the CPU starts anew every 4 KB. bfloat16 is widened as it is read, by one row, or else
// once for all rows.
#include "simd_plan.h"

constexpr float SLACK = 16; // of a score over m: 2^16
constexpr int AHEAD = 32;   // keys, of what comes from memory

// Two vectors of a row: the even elements, then the odd ones, which takes two instructions where
// widening takes six.
static inline void load_two(const bfloat16 *at, Vector (&two)[2]) {
    const Bits pairs = load_as<Bits>(at);
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

// N vectors of G elements each, over and over; of bfloat16 by twos, where there are two.
template <int G, int N> static inline void load_each(const float *at, Vector (&each)[N]) {
#pragma GCC unroll 4
    for (int i = 0; i < N; i++)
        each[i] = load_repeated<G>(at + i * G);
}

template <int G, int N> static inline void load_each(const bfloat16 *at, Vector (&each)[N]) {
    static_assert(G == LANES);
    if constexpr (N == 1)
        each[0] = load(at);
    else
#pragma GCC unroll 2
        for (int i = 0; i < N; i += 2)
            load_two(at + i * G, *(Vector(*)[2])(each + i));
}

// Rows of K or V, one a key. distant: they come from memory.
template <typename T> struct Keys {
    const T *first;
    int64_t stride;
    int n;
    bool distant;

    // Elements that will be wanted soon when `at` is.
    [[gnu::always_inline]] void fetch(const T *at, int n) const {
        prefetch(at + AHEAD * stride, n);
    }
};

// s = Q K^T, (keys / G, rows, G), to whole AT_ONCE; NEVER where a key is hidden. Returns the
// largest of each lane. qt: (head_dim / G, rows, G), zeros behind head_dim. visible: how many keys
// a lane's row sees.
template <int G>
static Vector score_keys(const float *qt, Keys<float> k, int d, Ints visible, float *s) {
    constexpr int AT_ONCE = 8; // keys
    Vector most = splat(NEVER);
    for (int i = 0; i < LANES; i++)
        visible[i] -= i % G;
    for (int j = 0; j < k.n; j += AT_ONCE) {
        const float *row[AT_ONCE]; // past the end the last key again: nobody sees it
        const float *at = k.first + j * k.stride;
        for (int i = 0; i < AT_ONCE; at += j + ++i < k.n ? k.stride : 0)
            row[i] = at;
        Vector acc[AT_ONCE] = {};
        int x = 0;
        const auto add = [&](auto steps) __attribute__((always_inline)) {
            constexpr int N = steps; // vectors of Q, and as much of a key before the next
            for (; x + N * G <= d; x += N * G) {
                Vector q[N];
                for (int y = 0; y < N; y++)
                    q[y] = load(qt + (x / G + y) * LANES);
#pragma GCC unroll 8
                for (int i = 0; i < AT_ONCE; i++) {
                    Vector each[N];
                    load_each<G>(row[i] + x, each);
                    if (k.distant && x % (64 / sizeof(float)) == 0) k.fetch(row[i] + x, N * G);
                    for (int y = 0; y < N; y++)
                        acc[i] += q[y] * each[y];
                }
            }
        };
        if (REGISTERS == 32) add(std::integral_constant<int, 4>());
        add(std::integral_constant<int, 2>());
        add(std::integral_constant<int, 1>());
        if (x < d) {
            const Vector q = load(qt + x / G * LANES);
#pragma GCC unroll 8
            for (int i = 0; i < AT_ONCE; i++) { // not unrolled, it would keep acc in memory
                float some[G] = {};
                std::copy(row[i] + x, row[i] + d, some);
                acc[i] += q * load_repeated<G>(some);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < AT_ONCE; i += G) {
            Vector each[G];
#pragma GCC unroll 8
            for (int c = 0; c < G; c++)
                each[c] = acc[i + c];
            const Vector all = sums(each);
            const Vector seen = visible > j + i ? all : splat(NEVER);
            most = larger(most, seen);
            store(s + (j + i) / G * LANES, seen);
        }
    }
    return most;
}

// The same for a row that has vectors for itself, by one key after the other: memory serves that
// best. STEPS: vectors of head_dim where that is whole and known ahead, else 0.
template <int STEPS, bool DISTANT, typename T>
static Vector score_alone(const float *q, Keys<T> k, int d, Ints visible, float *s) {
    const int whole = STEPS ? STEPS : d / LANES, rest = STEPS ? 0 : d % LANES;
    Vector most = splat(NEVER);
    for (int i = 0; i < LANES; i++)
        visible[i] -= i;
    for (int j = 0; j < k.n; j += LANES) {
        Vector acc[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            const T *row = k.first + std::min(j + i, k.n - 1) * k.stride;
            if (DISTANT) k.fetch(row, d);
            acc[i] = Vector{};
#pragma GCC unroll 4
            for (int x = 0; x + 2 <= whole; x += 2) {
                Vector two[2];
                load_each<LANES>(row + x * LANES, two);
                const Vector product = load(q + x * LANES) * two[0];
                acc[i] = x == 0 ? product : acc[i] + product;
                acc[i] += load(q + x * LANES + LANES) * two[1];
            }
            const int last = whole - whole % 2;
            if (whole % 2) acc[i] += load(q + last * LANES) * load(row + last * LANES);
            if (rest) acc[i] += load(q + whole * LANES) * load_some(row + whole * LANES, rest);
        }
        const Vector all = sums(acc), seen = visible > j ? all : splat(NEVER);
        most = larger(most, seen);
        store(s + j, seen);
    }
    return most;
}

template <bool DISTANT, typename T>
static Vector score_alone(const float *q, Keys<T> k, int d, Ints visible, float *s) {
    const auto score = d == 2 * LANES   ? score_alone<2, DISTANT, T>
                       : d == 4 * LANES ? score_alone<4, DISTANT, T>
                       : d == 5 * LANES ? score_alone<5, DISTANT, T>
                       : d == 6 * LANES ? score_alone<6, DISTANT, T>
                       : d == 8 * LANES ? score_alone<8, DISTANT, T>
                                        : score_alone<0, DISTANT, T>;
    return score(q, k, d, visible, s);
}

template <int G, typename T>
static Vector score(const float *qt, Keys<T> k, int d, Ints visible, float *s) {
    if constexpr (G < LANES)
        return score_keys<G>(qt, k, d, visible, s);
    else if constexpr (sizeof(T) == sizeof(float))
        return k.distant ? score_alone<true>(qt, k, d, visible, s)
                         : score_alone<false>(qt, k, d, visible, s);
    else // comes fast enough by itself
        return score_alone<false>(qt, k, d, visible, s);
}

// Weights as `score_keys` leaves scores, from some row on: of(j)[r * group] of row r and key j.
struct Weights {
    const float *first;
    int group; // G
    int shift = __builtin_ctz(group);

    const float *of(unsigned j) const { return first + (j >> shift) * LANES + (j & (group - 1)); }
};

// The same where a row has vectors for itself.
struct LoneWeights {
    const float *first;
    static constexpr int group = LANES;

    const float *of(int j) const { return first + j; }
};

// o[r] += sum over the keys of weight (r, j) v_j: R rows of weights, W vectors of head_dim from x
// on, by twos if there are two.
template <int R, int W, typename P, typename T>
static void add_values(const P &p, Keys<T> v, int x, float *o, int o_stride) {
    // Keys at once, so that sums wait less for themselves.
    constexpr int CHAINS = std::max(1, (REGISTERS == 32 ? 16 : 8) / (R * W));
    Vector acc[CHAINS][R][W] = {};
    const auto add = [&](int j, Vector(&to)[R][W]) __attribute__((always_inline)) {
        const T *row = v.first + j * v.stride + x;
        const float *weight = p.of(j);
        if (v.distant) v.fetch(row, W * LANES);
        Vector values[W];
        load_each<LANES>(row, values);
        for (int r = 0; r < R; r++)
            for (int w = 0; w < W; w++)
                to[r][w] += weight[r * p.group] * values[w];
    };
    int j = 0;
    for (; j + CHAINS <= v.n; j += CHAINS)
        for (int c = 0; c < CHAINS; c++)
            add(j + c, acc[c]);
    for (; j < v.n; j++)
        add(j, acc[0]);
    for (int r = 0; r < R; r++)
        for (int w = 0; w < W; w++) {
            for (int c = 1; c < CHAINS; c++)
                acc[0][r][w] += acc[c][r][w];
            float *at = o + r * o_stride + x + w * LANES;
            store(at, load(at) + acc[0][r][w]);
        }
}

// The same for all of head_dim, and n rows: R of them at once, then half as many, ...
template <int R, typename P, typename T>
static void add_rows(P p, Keys<T> v, int d, float *o, int o_stride, int n) {
    constexpr int WIDEST = REGISTERS == 32 || R < 4 ? 4 : 2;
    for (; n >= R; n -= R, p.first += R * p.group, o += R * o_stride) {
        int x = 0;
        for (; x + WIDEST * LANES <= d; x += WIDEST * LANES)
            add_values<R, WIDEST>(p, v, x, o, o_stride);
        for (; x + 2 * LANES <= d; x += 2 * LANES)
            add_values<R, 2>(p, v, x, o, o_stride);
        for (; x + LANES <= d; x += LANES)
            add_values<R, 1>(p, v, x, o, o_stride);
        for (int j = 0; x < d && j < v.n; j++) {
            const Vector value = load_some(v.first + j * v.stride + x, d - x);
            for (int r = 0; r < R; r++) {
                float *at = o + r * o_stride + x;
                store(at, load(at) + p.of(j)[r * p.group] * value);
            }
        }
        v.distant = false; // now it is in the cache
    }
    if constexpr (R > 1) add_rows<R / 2>(p, v, d, o, o_stride, n);
}

// The scores of n keys from j on, bent; returns the largest of each lane. rows: of first, visible,
// position and slope of each lane's row.
struct Bent {
    Bend bend;
    Ints first, visible, position;
    Vector slope;

    template <int G> Vector scores(float *s, int j, int n) const {
        Ints key = Ints{} + j;
        for (int i = 0; i < LANES; i++)
            key[i] += i % G;
        Vector most = splat(NEVER);
        for (int i = 0; i < n; i += G, key += G) {
            float *at = s + i / G * LANES;
            const Vector score = bend(load(at), key, first, visible, position, slope);
            store(at, score);
            most = larger(most, score);
        }
        return most;
    }
};

// T: what K and V are multiplied as.
template <typename T, int G>
static void attend_rows(const Plan &plan, const Item &it, float *scratch) {
    const gpt149_args *a = plan.a;
    const int d = plan.d, d_v = plan.d_v, padded = plan.padded_v();
    const bool distant =
        sizeof(T) == sizeof(float) && (int64_t)a->batch * a->n_kv_head * a->n_kv * d >= FAR;
    // (d / G, rows, G), (rows, padded), (CHUNK / G, rows, G); widened: (CHUNK, d) of K, of V
    float *qt = scratch, *o = qt + LANES / G * plan.padded(), *s = o + LANES / G * padded;
    float *wide = s + CHUNK * LANES / G;
    float *to[LANES];
    Bent bent = {Bend(a), {}, {}, {}, {}};
    const bool looks_again = plan.bent || a->window;
    Ints visible = {};
    Vector m = splat(NEVER), l = {}; // of each row, in G lanes; l is to be summed over them
    std::fill(scratch, s, 0.0f);
    plan.each_row(it, [&](int r, int head, int query) {
        const float *row = gpt149_q(a, it.batch, head, query), scale = bent.bend.scale;
        const bfloat16 *half = a->dtype == GPT149_BFLOAT16 ? (const bfloat16 *)row : nullptr;
        each_place<T>(d, [&](int x, int y) {
            qt[y / G * LANES + r * G + y % G] = (half ? to_float(half[x]) : row[x]) * scale;
        });
        to[r] = plan.target(it, r, head, query);
        for (int i = r * G; i < r * G + G; i++) {
            visible[i] = plan.visible(it, query);
            if (!looks_again) continue;
            bent.first[i] = gpt149_first(a, it.batch, query);
            bent.position[i] = query + a->n_kv - a->n_q;
            bent.slope[i] = a->alibi_slopes ? a->alibi_slopes[head] * LOG2E : 0;
        }
    });
    bent.visible = visible;

    for (int j = it.begin; j < it.end; j += CHUNK) {
        const int n = std::min(CHUNK, it.end - j);
        Keys<T> k = {plan.k<T>(it, j), a->k_stride[2], n, distant};
        Keys<T> v = {plan.v<T>(it, j), a->v_stride[2], n, distant};
        if constexpr (sizeof(T) == sizeof(float))
            if (a->kv_dtype == GPT149_BFLOAT16) {
                k = {widen(plan.k<bfloat16>(it, j), a->k_stride[2], n, d, wide), d, n, false};
                v = {widen(plan.v<bfloat16>(it, j), a->v_stride[2], n, d_v, wide + CHUNK * d), d_v,
                     n, false};
            }
        Vector most = score<G>(qt, k, d, visible - j, s);
        if (looks_again) most = bent.scores<G>(s, j, n);
        if (largest_of<LANES>(most > m + SLACK ? splat(1) : Vector{})[0] > 0) { // seldom
            const Vector risen = larger(m, largest_of<G>(most)), shrink = exp2(m - risen);
            m = risen, l *= shrink;
            for (int r = 0; r < it.n_rows; r++)
                for (int x = 0; x < padded; x += LANES)
                    store(o + r * padded + x, load(o + r * padded + x) * shrink[r * G]);
        }
        for (int i = 0; i < n; i += G) {
            float *at = s + i / G * LANES;
            const Vector score = load(at), p = score == NEVER ? Vector{} : exp2(score - m);
            store(at, p);
            l += p;
        }
        if constexpr (G == LANES)
            add_rows<1>(LoneWeights{s}, v, d_v, o, padded, 1);
        else
            add_rows<std::min(4, LANES / G)>(Weights{s, G}, v, d_v, o, padded, it.n_rows);
    }
    plan.each_row(it, [&](int r, int head, int query) {
        float total = 0;
        for (int i = 0; i < G; i++)
            total += l[r * G + i];
        const bool share = plan.splits > 1;
        const float shrink = share       ? 1
                             : plan.ends ? plan.finish(it.batch, head, query, m[r * G], total)
                                         : 1 / total;
        const float *row = o + r * padded;
        if (plan.wide())
            each_place<T>(d_v, [&](int x, int y) { to[r][x] = shrink * row[y]; });
        else
            each_place<T>(
                d_v, [&](int x, int y) { ((bfloat16 *)to[r])[x] = to_bfloat16(shrink * row[y]); });
        if (share) to[r][d_v] = m[r * G], to[r][d_v + 1] = total;
    });
}

void simd_decode(const Plan &plan, const Item &it, float *scratch) {
    if (it.n_rows == 1)
        (plan.a->kv_dtype == GPT149_BFLOAT16 ? attend_rows<bfloat16, LANES>
                                             : attend_rows<float, LANES>)(plan, it, scratch);
    else if (it.n_rows == 2)
        attend_rows<float, LANES / 2>(plan, it, scratch);
    else if (it.n_rows <= 4)
        attend_rows<float, LANES / 4>(plan, it, scratch);
    else if (it.n_rows <= 8)
        attend_rows<float, std::max(1, LANES / 8)>(plan, it, scratch);
    else
        attend_rows<float, std::max(1, LANES / 16)>(plan, it, scratch);
}
