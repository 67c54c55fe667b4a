// simd, prefill: lanes are queries.
//
// A tile is up to BR queries against bc keys, computed transposed: a vector's lanes are queries.
// Scores S^T = K Q^T and output O^T += V^T P^T are then two products of one form: a value of K or
// V, broadcast, times vectors of Q^T or P^T. K and V are read in place; only Q is packed, once a
// tile, and what the softmax keeps of a row (maximum m, sum l) is a lane, so that nothing is ever
// summed across a vector.
//
//   micro-kernel    KEYS x VECTORS accumulators in registers, each the start of its own chain of
//                   fused multiply-adds. A chain waits about 4 cycles for itself and two FMAs start
//                   a cycle, so 8 or more chains keep the CPU busy; 8 x 3 of 32 registers (4 x 3 of
//                   16) leave room for a row of Q^T and a broadcast, and need 11 loads per 24 FMAs.
//   tile            Q^T and O^T, 12 KB each at head_dim 64, and P^T, 24 KB, stay in the first two
//                   levels of cache, while the bc rows of K or V stream through.
//   maximum         accumulators start at -m, with m from the first KEYS keys. Keeping it would
//                   take a pass over the scores and a rescale of O^T for each tile; instead m stays
//                   until a row's sum in a tile passes LIMIT, which is when floats might run out.
//   mask            vectors of queries that see none of the keys are dropped from the products; a
//                   compare and select is done only where the diagonal passes.
//   variants        where scores are bent, or a window leaves out the first keys of a run for some
//                   queries, the scores of the run are stored as they are, then looked at again.
//   bfloat16        where the CPU multiplies two to a lane fast, Q and P are rounded to it, and a
//                   pair takes the place of a float: of head_dim in K and Q^T, of keys in V and
//                   P^T, for which V is paired once a tile. Elsewhere K and V are widened once a
//                   tile.
#include "simd_plan.h"

constexpr float LIMIT = 65536; // of a row's sum

// Where a tile's matrices are, each row BR floats; moved on by whole vectors where some are
// dropped.
struct Tile {
    float *qt, *ot, *pt;                 // (head_dim, BR), (head_dim, BR), (bc, BR)
    float *m, *l, *run_l;                // (BR); run_l: l of the keys at hand
    int32_t *first, *visible, *position; // (BR): keys from, up to which it sees; where it stands
    float *slope, *spare;                // (BR)
    float *widened;                      // (bc, head_dim) of K, of V

    Tile(const Plan &plan, float *scratch) {
        qt = scratch;
        ot = qt + plan.padded() * BR;
        pt = ot + plan.padded_v() * BR;
        m = pt + plan.bc * BR;
        l = m + BR;
        run_l = l + BR;
        first = (int32_t *)(run_l + BR);
        visible = first + BR;
        position = visible + BR;
        slope = (float *)(position + BR);
        spare = slope + BR;
        widened = spare + BR;
    }

    void drop(int vectors) {
        for (float **at : {&qt, &ot, &pt, &m, &l, &run_l, &slope, &spare})
            *at += vectors * LANES;
        for (int32_t **at : {&first, &visible, &position})
            *at += vectors * LANES;
    }
};

// X: what is multiplied, float or bfloat16, of which two share a lane.
template <typename X> constexpr int SHARING = sizeof(float) / sizeof(X);

static inline Vector add_product(Vector sum, const float *x, const float *column) {
    return sum + *x * load(column);
}

#if defined(FAST_PAIRS)
static inline Vector add_product(Vector sum, const bfloat16 *x, const float *column) {
    return add_products(sum, load_as<Ints>(column), repeat_four(x));
}

static inline void store_pairs(float *at, Vector first, Vector second) {
    store(at, (Vector)pairs(first, second));
}
#endif

// FIRST sets m from the block itself. NEXT takes it as it is. MOST only finds by how much the
// scores exceed m, into spare. RAW only stores the scores, (keys, BR) into pt.
enum Step { FIRST, NEXT, MOST, RAW };

// Keys j to j + KEYS against NV vectors of queries: P^T into pt, its sums to run_l.
template <Step STEP, bool MASKED, int NV, typename X>
static void score_block(const Tile &t, const X *const (&k)[KEYS], int head_dim, int j, float *pt) {
    Vector s[KEYS][NV];
    for (auto &row : s)
        for (int v = 0; v < NV; v++)
            row[v] = STEP == FIRST || STEP == RAW ? Vector{} : -load(t.m + v * LANES);
    for (int x = 0; x < head_dim; x += SHARING<X>)
        for (int r = 0; r < KEYS; r++)
            for (int v = 0; v < NV; v++)
                s[r][v] = add_product(s[r][v], k[r] + x, t.qt + x / SHARING<X> * BR + v * LANES);

    if constexpr (STEP == RAW) {
        for (int r = 0; r < KEYS; r++)
            for (int v = 0; v < NV; v++)
                store(pt + r * BR + v * LANES, s[r][v]);
        return;
    }
#pragma GCC unroll 3
    for (int v = 0; v < NV; v++) {
        Ints sees[KEYS];
        if (MASKED)
            for (int r = 0; r < KEYS; r++) {
                sees[r] = load_as<Ints>(t.visible + v * LANES) > j + r;
                s[r][v] = sees[r] ? s[r][v] : splat(NEVER);
            }
        if (STEP != NEXT) {
            float *most_at = (STEP == FIRST ? t.m : t.spare) + v * LANES;
            Vector most = STEP == FIRST ? splat(NEVER) : load(most_at);
            for (int r = 0; r < KEYS; r++)
                most = larger(most, s[r][v]);
            store(most_at, most);
            if (STEP == MOST) continue;
            for (int r = 0; r < KEYS; r++)
                s[r][v] -= most;
        }
        Vector l = load(t.run_l + v * LANES);
        for (int r = 0; r < KEYS; r++) {
            Vector &p = s[r][v];
            p = exp2(p);
            if (MASKED) p = sees[r] ? p : Vector{};
            l += p;
            if constexpr (SHARING<X> == 1)
                store(pt + r * BR + v * LANES, p);
            else if (r % 2)
                store_pairs(pt + r / 2 * BR + v * LANES, s[r - 1][v], p);
        }
        store(t.run_l + v * LANES, l);
    }
}

// O^T += V^T P^T for NX of head_dim and n keys. fresh: what was in O^T does not count.
template <int NX, int NV, typename X>
static void add_values(const X *v, int64_t stride, const float *pt, int n, float *ot, bool fresh) {
    Vector o[NX][NV];
    for (int x = 0; x < NX; x++)
        for (int w = 0; w < NV; w++)
            o[x][w] = fresh ? Vector{} : load(ot + x * BR + w * LANES);
    for (int j = 0; j < n; j += SHARING<X>, v += stride, pt += BR)
        for (int x = 0; x < NX; x++)
            for (int w = 0; w < NV; w++)
                o[x][w] = add_product(o[x][w], v + x * SHARING<X>, pt + w * LANES);
    for (int x = 0; x < NX; x++)
        for (int w = 0; w < NV; w++)
            store(ot + x * BR + w * LANES, o[x][w]);
}

// n keys from j on, of which k and v are the first rows; v of bfloat16: (keys / 2, head_dim, 2).
// masked_from: the first key that a query sees no more.
template <typename X> struct Run {
    const X *k, *v;
    int64_t k_stride, v_stride;
    int d, d_v, j, n, masked_from;
    bool fresh, distant; // distant: K and V come from memory, and this is the first look
};

template <Step STEP, bool MASKED, int NV, typename X>
static void score_run(const Tile &t, const Run<X> &run, int from, int to) {
    constexpr int ROWS = STEP == RAW ? 1 : SHARING<X>; // of keys in one of pt
    for (int b = from; b < to; b += KEYS) {
        const X *k[KEYS]; // past the end the last key again: nobody sees it
        for (int r = 0; r < KEYS; r++)
            k[r] = run.k + std::min(b + r, run.n - 1) * run.k_stride;
        if (run.distant) // V of these keys, and K of those of the next run
            for (int r = 0; r < KEYS; r++) {
                prefetch(k[r] + run.n * run.k_stride, run.d);
                prefetch(run.v + (b + r) * run.v_stride, run.d_v);
            }
        score_block<STEP, MASKED, NV>(t, k, run.d, run.j + b, t.pt + b / ROWS * BR);
    }
}

// O^T += V^T P^T for all of head_dim.
template <int NV, typename X> static void add_values(const Tile &t, const Run<X> &run) {
    int x = 0;
    for (; x + KEYS <= run.d_v; x += KEYS)
        add_values<KEYS, NV>(run.v + x * SHARING<X>, run.v_stride, t.pt, run.n, t.ot + x * BR,
                             run.fresh);
    for (; x < run.d_v; x++)
        add_values<1, NV>(run.v + x * SHARING<X>, run.v_stride, t.pt, run.n, t.ot + x * BR,
                          run.fresh);
}

// Keys raise m of a vector of queries: l and O^T shrink.
template <typename X> static void raise(const Tile &t, const Run<X> &run, int v, Vector m) {
    const Vector shrink = exp2(load(t.m + v * LANES) - m);
    store(t.m + v * LANES, m);
    store(t.l + v * LANES, load(t.l + v * LANES) * shrink);
    for (int x = 0; x < run.d_v && !run.fresh; x++)
        store(t.ot + x * BR + v * LANES, load(t.ot + x * BR + v * LANES) * shrink);
}

template <int NV, typename X> static void attend_run(const Tile &t, const Run<X> &run) {
    const int first = run.fresh ? std::min(KEYS, run.n) : 0;
    const int open = std::clamp((run.masked_from - run.j) / KEYS * KEYS, first, run.n);
    std::fill_n(t.run_l, NV * LANES, 0.0f);
    score_run<FIRST, true, NV>(t, run, 0, first);
    score_run<NEXT, false, NV>(t, run, first, open);
    score_run<NEXT, true, NV>(t, run, open, run.n);

    bool in_range = true;
    for (int i = 0; i < NV * LANES; i++)
        in_range &= t.run_l[i] <= LIMIT;
    if (!in_range) {
        std::fill_n(t.spare, NV * LANES, 0.0f);
        score_run<MOST, true, NV>(t, run, 0, run.n);
        for (int v = 0; v < NV; v++)
            raise(t, run, v, load(t.m + v * LANES) + load(t.spare + v * LANES));
        std::fill_n(t.run_l, NV * LANES, 0.0f);
        score_run<NEXT, true, NV>(t, run, 0, run.n);
    }
    for (int v = 0; v < NV; v++)
        store(t.l + v * LANES, load(t.l + v * LANES) + load(t.run_l + v * LANES));
    add_values<NV>(t, run);
}

// The same for any scores: a look at all of them for m, another for P.
template <int NV, typename X>
static void attend_bent_run(const Tile &t, const Run<X> &run, const Bend &bend) {
    score_run<RAW, false, NV>(t, run, 0, run.n);
    for (int v = 0; v < NV; v++) {
        float *pt = t.pt + v * LANES;
        const Ints first = load_as<Ints>(t.first + v * LANES);
        const Ints visible = load_as<Ints>(t.visible + v * LANES);
        const Ints position = load_as<Ints>(t.position + v * LANES);
        const Vector slope = load(t.slope + v * LANES), before = load(t.m + v * LANES);
        Vector most = before;
        for (int r = 0; r < run.n; r++) {
            const Ints key = Ints{} + (run.j + r);
            const Vector s = bend(load(pt + r * BR), key, first, visible, position, slope);
            store(pt + r * BR, s);
            most = larger(most, s);
        }
        if (largest_of<LANES>(most - before)[0] > 0) raise(t, run, v, most);
        Vector l = load(t.l + v * LANES);
        const auto weight = [&](int r) {
            const Vector s = r < run.n ? load(pt + r * BR) : splat(NEVER);
            const Vector p = s == NEVER ? Vector{} : exp2(s - most);
            l += p;
            return p;
        };
        for (int r = 0; r < run.n; r += SHARING<X>) {
            const Vector p = weight(r);
            if constexpr (SHARING<X> == 1)
                store(pt + r * BR, p);
            else
                store_pairs(pt + r / 2 * BR, p, weight(r + 1));
        }
        store(t.l + v * LANES, l);
    }
    add_values<NV>(t, run);
}

// Q^T times scale; lanes without a query are 0.
template <typename T>
static void pack_queries(const T *const *q, int n_rows, int head_dim, float scale, float *qt) {
    for (int r = 0; r < n_rows; r += LANES)
        for (int x = 0; x < head_dim; x += LANES) {
            Vector rows[LANES] = {};
            const int n = std::min(LANES, n_rows - r), width = std::min(LANES, head_dim - x);
            for (int i = 0; i < n; i++) {
                const T *at = q[r + i] + x;
                rows[i] = scale * (width == LANES ? load(at) : load_some(at, width));
            }
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                store(qt + (x + i) * BR + r, rows[i]);
        }
}

#if defined(FAST_PAIRS)
// Q^T (head_dim, BR) to (head_dim / 2, BR) pairs, in place.
static void pair_queries(float *qt, int head_dim) {
    for (int x = 0; x < head_dim; x += 2)
        for (int r = 0; r < BR; r += LANES)
            store_pairs(qt + x / 2 * BR + r, load(qt + x * BR + r), load(qt + (x + 1) * BR + r));
}

// n rows of V to (n / 2, head_dim) pairs; 0 beside the last row of an odd number.
static const bfloat16 *pair_values(const bfloat16 *v, int64_t stride, int n, int d, float *to) {
    uint32_t *pair = (uint32_t *)to;
    for (int j = 0; j < n; j += 2, v += 2 * stride, pair += d)
        for (int x = 0; x < d; x++)
            pair[x] = v[x] | (j + 1 < n ? (uint32_t)v[x + stride] << 16 : 0);
    return (const bfloat16 *)to;
}
#endif

// O^T to its rows, divided by l; or a share, behind which m and l are put.
static void unpack_output(const Plan &plan, const Item &it, const Tile &t, float *const *to) {
    const bool share = plan.splits > 1, floats = plan.wide();
    if (plan.ends && !share)
        plan.each_row(it, [&](int r, int head, int query) {
            t.spare[r] = plan.finish(it.batch, head, query, t.m[r], t.l[r]);
        });
    for (int r = 0; r < it.n_rows; r += LANES) {
        const int n = std::min(LANES, it.n_rows - r);
        const Vector shrink = share ? splat(1) : plan.ends ? load(t.spare + r) : 1 / load(t.l + r);
        for (int x = 0; x < plan.d_v; x += LANES) {
            Vector rows[LANES];
            for (int i = 0; i < LANES; i++)
                rows[i] = shrink * load(t.ot + (x + i) * BR + r);
            transpose(rows);
            for (int i = 0; i < n; i++)
                put(floats, to[r + i], x, std::min(LANES, plan.d_v - x), rows[i]);
        }
        for (int i = 0; share && i < n; i++) {
            to[r + i][plan.d_v] = t.m[r + i];
            to[r + i][plan.d_v + 1] = t.l[r + i];
        }
    }
}

// Nobody sees a key.
static void put_nothing(const Plan &plan, const Item &it, float *const *to) {
    plan.each_row(it, [&](int r, int head, int query) {
        for (int x = 0; x < plan.d_v; x += LANES)
            put(plan.wide(), to[r], x, std::min(LANES, plan.d_v - x), Vector{});
        if (plan.splits > 1)
            to[r][plan.d_v] = NEVER, to[r][plan.d_v + 1] = 0;
        else
            plan.finish(it.batch, head, query, NEVER, 0);
    });
}

// T: of K and V. X: what they are multiplied as.
template <typename T, typename X>
static void attend_tile(const Plan &plan, const Item &it, float *scratch) {
    const gpt149_args *a = plan.a;
    const int d = plan.d, d_v = plan.d_v, n_vectors = (it.n_rows + LANES - 1) / LANES;
    const bool lasts = it.end - it.begin > 2 * plan.bc; // long enough to fetch something meanwhile
    const bool looks_again = plan.bent || a->window;
    const Bend bend(a);
    Tile whole(plan, scratch);
    const float *q[BR];
    float *to[BR];
    plan.each_row(it, [&](int r, int head, int query) {
        q[r] = gpt149_q(a, it.batch, head, query);
        to[r] = plan.target(it, r, head, query);
        whole.visible[r] = plan.visible(it, query);
        if (looks_again) {
            whole.first[r] = gpt149_first(a, it.batch, query);
            whole.position[r] = query + a->n_kv - a->n_q;
            whole.slope[r] = a->alibi_slopes ? a->alibi_slopes[head] * LOG2E : 0;
        }
        if (!lasts || a->dtype != GPT149_FLOAT32) return;
        prefetch(q[r] + plan.br * a->q_stride[2], d); // for the next tile
        prefetch(to[r], d_v);
    });
    if (it.begin == it.end) return put_nothing(plan, it, to);
    const int last = it.n_rows - 1, empty = BR - it.n_rows; // lanes without a query
    std::fill_n(whole.visible + it.n_rows, empty, whole.visible[last]);
    if (looks_again) {
        std::fill_n(whole.first + it.n_rows, empty, whole.first[last]);
        std::fill_n(whole.position + it.n_rows, empty, whole.position[last]);
        std::fill_n(whole.slope + it.n_rows, empty, whole.slope[last]);
        std::fill_n(whole.m, BR, NEVER);
    }
    std::fill_n(whole.l, BR, 0.0f);
    if (a->dtype == GPT149_FLOAT32)
        pack_queries(q, it.n_rows, d, bend.scale, whole.qt);
    else
        pack_queries((const bfloat16 *const *)q, it.n_rows, d, bend.scale, whole.qt);
#if defined(FAST_PAIRS)
    if constexpr (SHARING<X> == 2) pair_queries(whole.qt, d);
#endif
    int least[VECTORS],
        most[VECTORS]; // keys that every query sees from this vector on; that any of
    for (int v = n_vectors - 1; v >= 0; v--) { // this vector sees
        const auto [low, high] =
            std::minmax_element(whole.visible + v * LANES, whole.visible + (v + 1) * LANES);
        least[v] = v + 1 < n_vectors ? std::min(*low, least[v + 1]) : *low;
        most[v] = *high;
    }
    // Up to where scores have to be looked at again.
    const int bent_to = plan.bent   ? it.end
                        : a->window ? *std::max_element(whole.first, whole.first + BR)
                                    : it.begin;

    int dropped = 0;
    bool fresh = true;
    const bool distant = plan.distant();
    for (int j = it.begin, n; j < it.end; j += n) {
        while (!fresh && dropped + 1 < n_vectors && most[dropped] <= j)
            dropped++;
        n = std::min(plan.bc, it.end - j);
        if (dropped + 1 < n_vectors && most[dropped] > j) // up to where a vector can be dropped
            n = std::min(n, (most[dropped] - j + KEYS - 1) / KEYS * KEYS);
        if (j < bent_to) n = std::min(n, (bent_to - j + KEYS - 1) / KEYS * KEYS);
        Tile t = whole;
        t.drop(dropped);
        Run<X> run = {nullptr, nullptr, a->k_stride[2], a->v_stride[2], d,      d_v,
                      j,       n,       least[dropped], fresh,          distant};
        float *wide = whole.widened;
        if constexpr (std::is_same_v<T, X>)
            run.k = plan.k<T>(it, j);
        else
            run.k = widen(plan.k<T>(it, j), run.k_stride, n, d, wide), run.k_stride = d;
        wide += plan.bc * d;
        if constexpr (SHARING<X> == 2)
            run.v = pair_values(plan.v<T>(it, j), run.v_stride, n, d_v, wide),
            run.v_stride = 2 * d_v;
        else if constexpr (std::is_same_v<T, X>)
            run.v = plan.v<T>(it, j);
        else
            run.v = widen(plan.v<T>(it, j), run.v_stride, n, d_v, wide), run.v_stride = d_v;
        const auto attend = [&](auto vectors) {
            j < bent_to ? attend_bent_run<vectors>(t, run, bend) : attend_run<vectors>(t, run);
        };
        switch (n_vectors - dropped) {
        case 1:
            attend(std::integral_constant<int, 1>());
            break;
        case 2:
            attend(std::integral_constant<int, 2>());
            break;
        default:
            attend(std::integral_constant<int, VECTORS>());
        }
        fresh = false;
    }
    unpack_output(plan, it, whole, to);
}

void simd_prefill(const Plan &plan, const Item &it, float *scratch) {
    if (plan.a->kv_dtype == GPT149_FLOAT32) return attend_tile<float, float>(plan, it, scratch);
#if defined(FAST_PAIRS)
    if (plan.d % 2 == 0) return attend_tile<bfloat16, bfloat16>(plan, it, scratch);
#endif
    attend_tile<bfloat16, float>(plan, it, scratch);
}
