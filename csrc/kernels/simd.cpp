// simd: flash attention built from the registers up.
//
// Prefill. A tile is up to BR queries against bc keys, computed transposed: a vector's lanes are
// queries. Scores S^T = K Q^T and output O^T += V^T P^T are then two products of one form: a value
// of K or V, broadcast, times vectors of Q^T or P^T. K and V are read in place; only Q is packed,
// once a tile, and what the softmax keeps of a row (maximum m, sum l) is a lane, so that nothing is
// ever summed across a vector.
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
//
// Decode. Up to NARROW rows that read the same keys (queries of a group's heads) take each row of
// K and V through registers once: bound by bytes. The keys are split into runs of SPLIT, so that a
// few heads feed many threads; runs are merged by their m and l (FlashDecoding, Dao et al. 2023).
// What comes from memory is prefetched: left to itself, the CPU starts anew every 4 KB.
//
// How the work is split depends on the shape alone: any number of threads gives the same bits.
// bfloat16 keys and values are widened as they are read, in a tile once for all of its queries.
//
// Bottleneck: the FMA units; exp2, which shares them, is most of what keeps a long prefill from
// their peak. Decode: memory.
#include "simd.h"
#include "gpt149.h"

#include <algorithm>
#include <omp.h>

constexpr int VECTORS = 3, KEYS = REGISTERS == 32 ? 8 : 4;
constexpr int BR = VECTORS * LANES; // queries a tile at most
constexpr int DEFAULT_BC = 128;     // keys a tile: P^T takes 24 KB of AVX-512
constexpr int NARROW = 4;           // rows; with more, lanes of queries win
constexpr int FEW = 16;             // queries: below, the heads of a group share a tile
constexpr int SPLIT = 512, CHUNK = 256;
constexpr int AHEAD = 16;         // keys, of what decode reads from memory
constexpr int64_t FAR = 64 << 10; // floats of K: no L2 keeps it and V for the next token
constexpr int64_t ALONE = 40000;  // multiplications: below, waking other threads takes longer
constexpr float LIMIT = 65536, SLACK = 16; // of a row's sum; of a score over m: 2^16 = LIMIT
constexpr float NEVER = -1e30f, LOG2E = 1.44269504f;

// A part of the work: rows of a unit that read the same keys, and which of the keys. head, query:
// where the first row is; see Plan::each_row.
struct Item {
    int batch, head, query, n_rows, begin, end;
    int64_t row; // counted over all units
};

// How the call is cut into items. A unit is a batch's head, or, where queries are few, all heads
// that share a key head: its rows are the queries of the first head, then of the second, ...
struct Plan {
    const gpt149_args *a;
    int heads, rows, units; // heads and rows of a unit
    int br, bc, tiles, splits;

    explicit Plan(const gpt149_args *args) : a(args) {
        const int group = a->n_head / a->n_kv_head;
        heads = a->n_q <= FEW ? group : 1;
        rows = heads * a->n_q;
        units = a->batch * a->n_head / heads;
        br = a->br > 0 ? (std::min(a->br, BR) + LANES - 1) / LANES * LANES : BR;
        br = rows <= NARROW ? NARROW : br;
        bc = std::min(a->bc > 0 ? a->bc : DEFAULT_BC, a->n_kv);
        bc = (bc + KEYS - 1) / KEYS * KEYS;
        tiles = (rows + br - 1) / br;
        splits = a->n_q <= FEW ? (a->n_kv + SPLIT - 1) / SPLIT : 1;
    }

    int64_t n_items() const { return (int64_t)units * tiles * splits; }

    Item item(int64_t i) const {
        const int split = i % splits, tile = i / splits % tiles, unit = i / splits / tiles;
        return rows_of(unit, tile * br, br, split);
    }
    // The rows of a unit from one on, n at most.
    Item rows_of(int unit, int row, int n, int split) const {
        const int units_each = a->n_head / heads; // of a batch
        Item it;
        it.batch = unit / units_each;
        it.head = unit % units_each * heads + row / a->n_q;
        it.query = row % a->n_q;
        it.n_rows = std::min(n, rows - row);
        it.row = (int64_t)unit * rows + row;
        it.begin = split * SPLIT;
        it.end = splits > 1   ? std::min(it.begin + SPLIT, a->n_kv)
                 : heads == 1 ? gpt149_visible(a, row + it.n_rows - 1)
                              : a->n_kv;
        return it;
    }

    // Multiplications of an item, about.
    int64_t cost(const Item &it) const {
        const int n = rows <= NARROW ? it.n_rows : (it.n_rows + LANES - 1) / LANES * LANES;
        return (int64_t)n * (it.end - it.begin) * a->head_dim;
    }

    // f(r, head, query) for the rows of an item.
    template <typename F> void each_row(const Item &it, F f) const {
        for (int r = 0, h = it.head, i = it.query; r < it.n_rows; r++) {
            f(r, h, i);
            if (++i == a->n_q) i = 0, h++;
        }
    }
    // How many keys, from the first, a query of the item sees; none behind the item's end.
    int visible(const Item &it, int query) const {
        return std::min(gpt149_visible(a, query), it.end);
    }
    // Where row r of an item goes: to the output, or to its share of it. Shares end in m and l.
    float *target(const Item &it, int r, int head, int query) const {
        return splits > 1 ? share(it.row + r, it.begin / SPLIT)
                          : gpt149_out(a, it.batch, head, query);
    }
    template <typename T> const T *k(const Item &it, int j) const {
        const int h = it.head / (a->n_head / a->n_kv_head);
        return (const T *)a->k + it.batch * a->k_stride[0] + h * a->k_stride[1] +
               j * a->k_stride[2];
    }
    template <typename T> const T *v(const Item &it, int j) const {
        const int h = it.head / (a->n_head / a->n_kv_head);
        return (const T *)a->v + it.batch * a->v_stride[0] + h * a->v_stride[1] +
               j * a->v_stride[2];
    }

    // Workspace, in floats. A thread's own: Q^T, O^T, P^T, five numbers a row, and K and V of a
    // tile where they are widened. Then, if the keys are split, O, m and l of each row and run.
    int padded() const { return (a->head_dim + LANES - 1) / LANES * LANES; }
    int64_t thread_floats() const {
        const int64_t widened = a->kv_dtype == GPT149_BFLOAT16 ? 2 * bc * a->head_dim : 0;
        const int64_t wide = BR * (2 * padded() + bc + 5) + widened;
        const int64_t narrow = 2 * NARROW * padded() + CHUNK; // see attend_rows
        return (std::max(wide, narrow) + 15) / 16 * 16;
    }
    float *share(int64_t row, int split) const {
        return (float *)a->workspace + a->n_threads * thread_floats() +
               (row * splits + split) * (a->head_dim + 2);
    }
    int64_t floats() const {
        const int64_t shares = splits > 1 ? (int64_t)units * rows * splits : 0;
        return a->n_threads * thread_floats() + shares * (a->head_dim + 2);
    }
};

// ---- Prefill: lanes are queries ----

// Where a tile's matrices are, each row BR floats; moved on by whole vectors where some are
// dropped.
struct Tile {
    float *qt, *ot, *pt;    // (head_dim, BR), (head_dim, BR), (bc, BR)
    float *m, *l, *run_l;   // (BR); run_l: l of the keys at hand
    int32_t *visible;       // (BR)
    float *widened, *spare; // (bc, head_dim) of K, of V; (BR)

    Tile(const Plan &plan, float *scratch) {
        qt = scratch;
        ot = qt + plan.padded() * BR;
        pt = ot + plan.padded() * BR;
        m = pt + plan.bc * BR;
        l = m + BR;
        run_l = l + BR;
        visible = (int32_t *)(run_l + BR);
        spare = run_l + 2 * BR;
        widened = spare + BR;
    }

    void drop(int vectors) {
        for (float **at : {&qt, &ot, &pt, &m, &l, &run_l, &spare})
            *at += vectors * LANES;
        visible += vectors * LANES;
    }
};

// FIRST sets m from the block itself. NEXT takes it as it is. MOST only finds by how much the
// scores exceed m, into spare.
enum Step { FIRST, NEXT, MOST };

// Keys j to j + KEYS against NV vectors of queries: P^T into pt, its sums to run_l.
template <Step STEP, bool MASKED, int NV>
static void score_block(const Tile &t, const float *const (&k)[KEYS], int head_dim, int j,
                        float *pt) {
    Vector s[KEYS][NV];
    for (auto &row : s)
        for (int v = 0; v < NV; v++)
            row[v] = STEP == FIRST ? Vector{} : -load(t.m + v * LANES);
    for (int x = 0; x < head_dim; x++)
        for (int r = 0; r < KEYS; r++)
            for (int v = 0; v < NV; v++)
                s[r][v] += k[r][x] * load(t.qt + x * BR + v * LANES);

#pragma GCC unroll 3
    for (int v = 0; v < NV; v++) {
        Ints sees[KEYS];
        if (MASKED)
            for (int r = 0; r < KEYS; r++) {
                sees[r] = *(const Ints *)(t.visible + v * LANES) > j + r;
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
            Vector p = exp2(s[r][v]);
            if (MASKED) p = sees[r] ? p : Vector{};
            store(pt + r * BR + v * LANES, p);
            l += p;
        }
        store(t.run_l + v * LANES, l);
    }
}

// O^T += V^T P^T for NX of head_dim and n keys. fresh: what was in O^T does not count.
template <int NX, int NV>
static void add_values(const float *v, int64_t stride, const float *pt, int n, float *ot,
                       bool fresh) {
    Vector o[NX][NV];
    for (int x = 0; x < NX; x++)
        for (int w = 0; w < NV; w++)
            o[x][w] = fresh ? Vector{} : load(ot + x * BR + w * LANES);
    for (int j = 0; j < n; j++, v += stride, pt += BR)
        for (int x = 0; x < NX; x++)
            for (int w = 0; w < NV; w++)
                o[x][w] += v[x] * load(pt + w * LANES);
    for (int x = 0; x < NX; x++)
        for (int w = 0; w < NV; w++)
            store(ot + x * BR + w * LANES, o[x][w]);
}

// n keys from j on, of which k and v are the first rows. masked_from: the first key that not every
// query sees.
struct Run {
    const float *k, *v;
    int64_t k_stride, v_stride;
    int j, n, masked_from;
    bool fresh;
};

template <Step STEP, bool MASKED, int NV>
static void score_run(const Tile &t, const Run &run, int head_dim, int from, int to) {
    for (int b = from; b < to; b += KEYS) {
        const float *k[KEYS]; // past the end the last key again: nobody sees it
        for (int r = 0; r < KEYS; r++)
            k[r] = run.k + std::min(b + r, run.n - 1) * run.k_stride;
        score_block<STEP, MASKED, NV>(t, k, head_dim, run.j + b, t.pt + b * BR);
    }
}

template <int NV> static void attend_run(const Tile &t, const Run &run, int head_dim) {
    const int first = run.fresh ? std::min(KEYS, run.n) : 0;
    const int open = std::clamp((run.masked_from - run.j) / KEYS * KEYS, first, run.n);
    std::fill_n(t.run_l, NV * LANES, 0.0f);
    score_run<FIRST, true, NV>(t, run, head_dim, 0, first);
    score_run<NEXT, false, NV>(t, run, head_dim, first, open);
    score_run<NEXT, true, NV>(t, run, head_dim, open, run.n);

    bool in_range = true;
    for (int i = 0; i < NV * LANES; i++)
        in_range &= t.run_l[i] <= LIMIT;
    if (!in_range) {
        std::fill_n(t.spare, NV * LANES, 0.0f);
        score_run<MOST, true, NV>(t, run, head_dim, 0, run.n);
        for (int v = 0; v < NV; v++) {
            const Vector rise = load(t.spare + v * LANES), shrink = exp2(-rise);
            store(t.m + v * LANES, load(t.m + v * LANES) + rise);
            store(t.l + v * LANES, load(t.l + v * LANES) * shrink);
            for (int x = 0; x < head_dim && !run.fresh; x++)
                store(t.ot + x * BR + v * LANES, load(t.ot + x * BR + v * LANES) * shrink);
        }
        std::fill_n(t.run_l, NV * LANES, 0.0f);
        score_run<NEXT, true, NV>(t, run, head_dim, 0, run.n);
    }
    for (int v = 0; v < NV; v++)
        store(t.l + v * LANES, load(t.l + v * LANES) + load(t.run_l + v * LANES));

    int x = 0;
    for (; x + KEYS <= head_dim; x += KEYS)
        add_values<KEYS, NV>(run.v + x, run.v_stride, t.pt, run.n, t.ot + x * BR, run.fresh);
    for (; x < head_dim; x++)
        add_values<1, NV>(run.v + x, run.v_stride, t.pt, run.n, t.ot + x * BR, run.fresh);
}

// Q^T times scale, in units of log2(e) so that 2^x serves for e^x; lanes without a query are 0.
static void pack_queries(const float *const *q, int n_rows, int head_dim, float scale, float *qt) {
    for (int r = 0; r < n_rows; r += LANES)
        for (int x = 0; x < head_dim; x += LANES) {
            Vector rows[LANES] = {};
            const int n = std::min(LANES, n_rows - r), width = std::min(LANES, head_dim - x);
            for (int i = 0; i < n; i++) {
                const float *at = q[r + i] + x;
                rows[i] = scale * (width == LANES ? load(at) : load_some(at, width));
            }
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                store(qt + (x + i) * BR + r, rows[i]);
        }
}

// O^T to its rows; whole: divided by l, else a share, behind which m and l are put.
static void unpack_output(const Tile &t, float *const *to, int n_rows, int head_dim, bool whole) {
    for (int r = 0; r < n_rows; r += LANES) {
        const int n = std::min(LANES, n_rows - r);
        const Vector shrink = whole ? 1 / load(t.l + r) : splat(1);
        for (int x = 0; x < head_dim; x += LANES) {
            Vector rows[LANES];
            const int width = std::min(LANES, head_dim - x);
            for (int i = 0; i < LANES; i++)
                rows[i] = shrink * load(t.ot + (x + i) * BR + r);
            transpose(rows);
            for (int i = 0; i < n; i++) {
                float *at = to[r + i] + x;
                width == LANES ? store(at, rows[i]) : store_some(at, rows[i], width);
            }
        }
        for (int i = 0; !whole && i < n; i++) {
            to[r + i][head_dim] = t.m[r + i];
            to[r + i][head_dim + 1] = t.l[r + i];
        }
    }
}

static const float *widen(const float *rows, int64_t &, int, int, float *) {
    return rows;
}

static const float *widen(const bfloat16 *rows, int64_t &stride, int n, int head_dim, float *to) {
    for (int j = 0; j < n; j++)
        for (int x = 0; x < head_dim; x++)
            to[j * head_dim + x] = to_float(rows[j * stride + x]);
    stride = head_dim;
    return to;
}

template <typename T> static void attend_tile(const Plan &plan, const Item &it, float *scratch) {
    const gpt149_args *a = plan.a;
    const int n_vectors = (it.n_rows + LANES - 1) / LANES;
    Tile whole(plan, scratch);
    const float *q[BR];
    float *to[BR];
    plan.each_row(it, [&](int r, int head, int query) {
        q[r] = gpt149_q(a, it.batch, head, query);
        to[r] = plan.target(it, r, head, query);
        whole.visible[r] = plan.visible(it, query);
    });
    std::fill_n(whole.visible + it.n_rows, BR - it.n_rows, whole.visible[it.n_rows - 1]);
    std::fill_n(whole.l, BR, 0.0f);
    pack_queries(q, it.n_rows, a->head_dim, a->scale * LOG2E, whole.qt);
    int least[VECTORS],
        most[VECTORS]; // keys that every query sees from this vector on; that any of
    for (int v = n_vectors - 1; v >= 0; v--) { // this vector sees
        const auto [low, high] =
            std::minmax_element(whole.visible + v * LANES, whole.visible + (v + 1) * LANES);
        least[v] = v + 1 < n_vectors ? std::min(*low, least[v + 1]) : *low;
        most[v] = *high;
    }

    int dropped = 0;
    bool fresh = true;
    for (int j = it.begin, n; j < it.end; j += n) {
        while (!fresh && dropped + 1 < n_vectors && most[dropped] <= j)
            dropped++;
        n = std::min(plan.bc, it.end - j);
        if (dropped + 1 < n_vectors && most[dropped] > j) // up to where a vector can be dropped
            n = std::min(n, (most[dropped] - j + KEYS - 1) / KEYS * KEYS);
        Tile t = whole;
        t.drop(dropped);
        Run run = {nullptr, nullptr, a->k_stride[2], a->v_stride[2], j, n, least[dropped], fresh};
        run.k = widen(plan.k<T>(it, j), run.k_stride, n, a->head_dim, whole.widened);
        run.v = widen(plan.v<T>(it, j), run.v_stride, n, a->head_dim,
                      whole.widened + plan.bc * a->head_dim);
        switch (n_vectors - dropped) {
        case 1:
            attend_run<1>(t, run, a->head_dim);
            break;
        case 2:
            attend_run<2>(t, run, a->head_dim);
            break;
        default:
            attend_run<VECTORS>(t, run, a->head_dim);
        }
        fresh = false;
    }
    unpack_output(whole, to, it.n_rows, a->head_dim, plan.splits == 1);
}

// ---- Decode: lanes are head_dim, or keys ----

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

// s[j] = q . k_j for n keys, q in its places and padded with zeros. VECTORS_OF: head_dim / LANES
// where that is whole and known ahead, else 0. DISTANT: K comes from memory.
template <int VECTORS_OF, bool DISTANT, typename T>
static void dots(const float *q, const T *k, int64_t stride, int n, int head_dim, float *s) {
    const int whole = VECTORS_OF ? VECTORS_OF : head_dim / LANES;
    const int rest = VECTORS_OF ? 0 : head_dim % LANES;
    const auto group = [&](int j, auto row) __attribute__((always_inline)) {
        Vector acc[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            const T *at = row(j + i);
            if (DISTANT) prefetch((const uint8_t *)(at + AHEAD * stride), head_dim * sizeof(T));
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
        store(s + j, sums(acc));
    };
    int j = 0;
    for (; j + LANES <= n; j += LANES)
        group(j, [&](int i) { return k + i * stride; });
    if (j < n) // past the end the last key again
        group(j, [&](int i) { return k + std::min(i, n - 1) * stride; });
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
            score(q + r * padded, k, a->k_stride[2], n, d, s);
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

// A row's output from its shares, each weighed by 2^m.
static void merge(const Plan &plan, int unit, int row) {
    const int d = plan.a->head_dim;
    const Item it = plan.rows_of(unit, row, 1, 0);
    float m = NEVER, l = 0, *out = gpt149_out(plan.a, it.batch, it.head, it.query);
    for (int s = 0; s < plan.splits; s++)
        m = std::max(m, plan.share(it.row, s)[d]);
    for (int s = 0; s < plan.splits; s++)
        l += exp2(splat(plan.share(it.row, s)[d] - m))[0] * plan.share(it.row, s)[d + 1];
    std::fill_n(out, d, 0.0f);
    for (int s = 0; s < plan.splits; s++) {
        const float *share = plan.share(it.row, s), weight = exp2(splat(share[d] - m))[0] / l;
        for (int x = 0; x < d; x++)
            out[x] += weight * share[x];
    }
}

static int64_t workspace_bytes(const gpt149_args *a) {
    return Plan(a).floats() * sizeof(float);
}

// A thread takes consecutive items, a head's together, of about the same cost in all.
static void attend_items(const Plan &plan, int64_t total, int thread, int n_threads) {
    const gpt149_args *a = plan.a;
    const bool half = a->kv_dtype == GPT149_BFLOAT16; // comes fast enough by itself
    const bool distant = (int64_t)a->batch * a->n_kv_head * a->n_kv * a->head_dim >= FAR;
    const auto narrow = half      ? attend_rows<bfloat16, false>
                        : distant ? attend_rows<float, true>
                                  : attend_rows<float, false>;
    const auto attend = plan.rows <= NARROW ? narrow
                        : half              ? attend_tile<bfloat16>
                                            : attend_tile<float>;
    float *scratch = (float *)plan.a->workspace + thread * plan.thread_floats();
    int64_t before = 0;
    for (int64_t i = 0; i < plan.n_items(); i++) {
        const Item item = plan.item(i);
        const int64_t cost = plan.cost(item), middle = before + cost / 2;
        if (middle * n_threads / total == thread) attend(plan, item, scratch);
        before += cost;
    }
}

static const char *run(const gpt149_args *a) {
    if (a->dtype != GPT149_FLOAT32) return "it computes in float32 only";
    const Plan plan(a);
    const int64_t n_rows = plan.splits > 1 ? (int64_t)plan.units * plan.rows : 0; // to merge
    int64_t total = 0;
    for (int64_t i = 0; i < plan.n_items(); i++)
        total += plan.cost(plan.item(i));
    if (a->n_threads == 1 || total < ALONE) { // a parallel region of one costs system calls
        attend_items(plan, total, 0, 1);
        for (int64_t i = 0; i < n_rows; i++)
            merge(plan, i / plan.rows, i % plan.rows);
        return nullptr;
    }
#pragma omp parallel num_threads(a->n_threads)
    {
        attend_items(plan, total, omp_get_thread_num(), omp_get_num_threads());
        if (n_rows > 0) {
#pragma omp barrier
#pragma omp for schedule(static)
            for (int64_t i = 0; i < n_rows; i++)
                merge(plan, i / plan.rows, i % plan.rows);
        }
    }
    return nullptr;
}

GPT149_KERNEL({"simd", "flash on register-blocked micro-kernels, lanes over queries; split decode",
               "n_threads br (bc + head_dim) + n_head n_kv / 512 head_dim", workspace_bytes, run})
