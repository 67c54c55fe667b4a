// simd_plan.h: how a call of `simd` is cut into items of work, and where each keeps its numbers.
#pragma once

#include "gpt149.h"
#include "simd.h"

#include <algorithm>

constexpr int VECTORS = 3, KEYS = REGISTERS == 32 ? 8 : 4;
constexpr int BR = VECTORS * LANES;     // queries a tile at most
constexpr int DEFAULT_BC = 128;         // keys a tile: P^T takes 24 KB of AVX-512
constexpr int NARROW = 4;               // rows; with more, lanes of queries win
constexpr int FEW = 16;                 // queries: below, the heads of a group share a tile
constexpr int SPLIT = 512, CHUNK = 256; // keys of a share; of it, at once
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

// The attention of an item, into its target. scratch: thread_floats().
void simd_prefill(const Plan &plan, const Item &it, float *scratch);
void simd_decode(const Plan &plan, const Item &it, float *scratch);
