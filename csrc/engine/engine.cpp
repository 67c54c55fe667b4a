// engine: whole steps of a GPT-2 in plain C++, around any attention kernel of the contract.
//
// A step is one parallel region. Threads share out the columns of every product and the heads, or
// the sequences, of the attention, where each calls the kernel for its own with n_threads = 1;
// between these they meet at a barrier, five times a layer (oftener where many rows are normed or
// rounded). gpt149/model/gpt.py says the same in torch and is the specification.
//
// Decode is bound by reading the weights, prefill by the FMA units: see matrix.h.
#include "engine/image.h"
#include "engine/sample.h"
#include "engine/weights.h"
#include "gpt149.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <omp.h>
#include <sched.h>
#include <vector>

// Mirrored by gpt149/engine/binding.py.
struct Config {
    int32_t n_layer, n_head, n_embd, n_inner, n_ctx, vocab_size;
    int32_t activation, kv_dtype, n_threads, br, bc;
    float layer_norm_epsilon;
};

enum Vectors { LN_1_WEIGHT, LN_1_BIAS, LN_2_WEIGHT, LN_2_BIAS, N_VECTORS };
enum Matrices { C_ATTN, ATTN_PROJ, C_FC, MLP_PROJ, N_MATRICES };

struct Layer {
    Memory<float> vectors[N_VECTORS];
    Matrix matrices[N_MATRICES];
    float scale; // of the scores
};

// Everybody waits for everybody. Spins, for a phase lasts microseconds; yields when it takes long.
class Barrier {
  public:
    void wait(int n) {
        const int phase = phase_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == n) {
            arrived_.store(0, std::memory_order_relaxed);
            phase_.store(phase + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; spins++) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
            if (spins > 20000) sched_yield();
        }
    }

  private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> phase_{0};
};

struct Engine {
    Config c;
    Pool pool; // of the matrices
    std::vector<Layer> layers;
    Matrix head, embedding; // embedding: unused where it is tied to the head
    std::unique_ptr<Weights> weights;
    std::unique_ptr<Bounds> screen; // of the head, where it is screened
    Memory<float> positions, ln_f_weight, ln_f_bias;
    uint8_t *k_cache = nullptr, *v_cache = nullptr; // (n_layer, batch, n_head, n_ctx, head_dim)
    int batch = 1, rows = 0;                        // rows: tokens that the buffers hold
    Memory<float> x, norm, qkv, y, hidden;          // (rows, width)
    std::vector<Memory<uint8_t>> workspaces;        // a thread's, for the kernel
    std::vector<int64_t> workspace_sizes;
    Barrier barrier;
    double attention_seconds = 0;
    std::atomic<const char *> declined{nullptr};

    int head_dim() const { return c.n_embd / c.n_head; }
    // Rows 4 KB apart would all fall into the same sets of the cache.
    int inner_stride() const { return c.n_inner + LANES; }

    bool reserve(int n) {
        if (n <= rows) return true;
        x = allocate<float>((int64_t)n * c.n_embd);
        norm = allocate<float>((int64_t)std::max(n, c.n_threads) * (c.n_embd + LANES));
        qkv = allocate<float>((int64_t)n * 3 * c.n_embd);
        y = allocate<float>((int64_t)n * c.n_embd);
        hidden = allocate<float>((int64_t)n * inner_stride());
        const bool kept = weights->reserve(std::max(n, c.n_threads), std::max(c.n_inner, c.n_embd));
        rows = kept && x && norm && qkv && y && hidden ? n : 0;
        return rows > 0;
    }
};

static void layer_norm(const float *x, const float *weight, const float *bias, int n, float epsilon,
                       float *y) {
    float mean = 0, variance = 0;
#pragma omp simd reduction(+ : mean)
    for (int i = 0; i < n; i++)
        mean += x[i];
    mean /= n;
#pragma omp simd reduction(+ : variance)
    for (int i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / std::sqrt(variance / n + epsilon);
    for (int i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

// n rows of n_embd activations, from `first` on.
struct Rows {
    float *first;
    int64_t stride;
    int n;
};

// Which logits of a step somebody looks at: behind each id, or behind the last of each sequence;
// all of them, or, where likeliest > 0, so many of the largest, noise included, of ids below
// `known`.
struct Wanted {
    bool every;
    int likeliest = 0, known = 0;
    Noise noise = {};
};

// One step of one thread. ids: (batch, n), behind `start` tokens.
struct Step {
    Engine &e;
    const gpt149_kernel &kernel;
    int n, start;
    Wanted wanted;
    int thread, n_threads;

    int n_rows() const { return e.batch * n; }
    void meet() { e.barrier.wait(n_threads); }

    // The rows normed. A single row each thread norms for itself, which spares a meeting.
    float *normed(const Rows &x, const float *weight, const float *bias) {
        const int width = e.c.n_embd, stride = width + LANES;
        const bool alone = x.n == 1;
        float *own = e.norm.get() + (alone ? (int64_t)thread * stride : 0);
        const Share share = alone ? Share(1, 0, 1) : Share(x.n, thread, n_threads);
        for (int r = share.first; r < share.last; r++)
            layer_norm(x.first + r * x.stride, weight, bias, width, e.c.layer_norm_epsilon,
                       own + (int64_t)r * stride);
        if (!alone) meet();
        return own;
    }

    void embed(const int32_t *ids) {
        const int width = e.c.n_embd;
        const Share share(n_rows(), thread, n_threads);
        const Matrix &table = e.embedding.in ? e.embedding : e.head;
        for (int r = share.first; r < share.last; r++) {
            float *x = e.x.get() + (int64_t)r * width;
            const float *position = e.positions.get() + (int64_t)(start + r % n) * width;
            e.weights->row(table, ids[r], x);
            for (int i = 0; i < width; i++)
                x[i] += position[i];
        }
        meet();
    }

    // This thread's heads, or sequences where these share out more evenly: their new keys and
    // values into the cache, then the kernel, for the last n_q tokens.
    void attend(int layer, int n_q) {
        const int most_heads = (e.c.n_head + n_threads - 1) / n_threads * e.batch;
        const int most_sequences = (e.batch + n_threads - 1) / n_threads * e.c.n_head;
        const bool by_heads = most_heads <= most_sequences;
        const Share heads =
            by_heads ? Share(e.c.n_head, thread, n_threads) : Share(e.c.n_head, 0, 1);
        const Share batch = by_heads ? Share(e.batch, 0, 1) : Share(e.batch, thread, n_threads);
        if (heads.first == heads.last || batch.first == batch.last) return;
        const int d = e.head_dim(), width = e.c.n_embd, size = e.c.kv_dtype == BFLOAT16 ? 2 : 4;
        const int64_t per_head = (int64_t)e.c.n_ctx * d, per_batch = e.c.n_head * per_head;
        const int64_t of_layer = (int64_t)layer * e.batch * per_batch;
        for (int r = batch.first * n; r < batch.last * n; r++)
            for (int h = heads.first; h < heads.last; h++) {
                const float *k = e.qkv.get() + (int64_t)r * 3 * width + width + h * d;
                const int64_t at =
                    of_layer + r / n * per_batch + h * per_head + (int64_t)(start + r % n) * d;
                keep(k, e.k_cache + at * size, d);
                keep(k + width, e.v_cache + at * size, d);
            }

        gpt149_args a = {};
        a.abi_version = GPT149_ABI_VERSION, a.struct_size = sizeof a;
        a.dtype = GPT149_FLOAT32, a.kv_dtype = e.c.kv_dtype;
        a.causal = 1, a.n_threads = 1, a.br = e.c.br, a.bc = e.c.bc;
        a.batch = batch.last - batch.first, a.n_head = a.n_kv_head = heads.last - heads.first;
        a.head_dim = d, a.n_q = n_q, a.n_kv = start + n, a.scale = e.layers[layer].scale;
        const int64_t q_stride[] = {(int64_t)n * 3 * width, d, 3 * width};
        const int64_t kv_stride[] = {per_batch, per_head, d};
        const int64_t out_stride[] = {(int64_t)n_q * width, d, width};
        std::copy_n(q_stride, 3, a.q_stride);
        std::copy_n(kv_stride, 3, a.k_stride);
        std::copy_n(kv_stride, 3, a.v_stride);
        std::copy_n(out_stride, 3, a.out_stride);

        const int64_t needed = kernel.workspace_bytes(&a);
        if (needed < 0) {
            e.declined = "its workspace_bytes is negative";
            return;
        }
        if (needed > e.workspace_sizes[thread]) {
            e.workspaces[thread] = allocate<uint8_t>(needed);
            e.workspace_sizes[thread] = e.workspaces[thread] ? needed : 0;
        }
        if (needed > e.workspace_sizes[thread]) {
            e.declined = "there is no memory for its workspace";
            return;
        }
        const int64_t first = of_layer + batch.first * per_batch + heads.first * per_head;
        a.q = e.qkv.get() + ((int64_t)batch.first * n + n - n_q) * 3 * width + heads.first * d;
        a.k = e.k_cache + first * size, a.v = e.v_cache + first * size;
        a.out = e.y.get() + (int64_t)batch.first * n_q * width + heads.first * d;
        a.workspace = e.workspaces[thread].get();
        if (const char *why = kernel.run(&a)) e.declined = why;
    }

    void keep(const float *row, uint8_t *to, int d) const {
        if (e.c.kv_dtype == BFLOAT16)
            for (int i = 0; i < d; i++)
                ((bfloat16 *)to)[i] = to_bfloat16(row[i]);
        else
            std::memcpy(to, row, d * sizeof(float));
    }

    // Rounds x where the products want that; the row from which it is kept. As for `normed`, a
    // single row is done by each.
    int round(const float *x, int64_t x_stride, int width, int n) {
        if (!e.weights->rounds()) return 0;
        if (n == 1) {
            e.weights->keep(thread, x, width);
            return thread;
        }
        const Share share(n, thread, n_threads);
        for (int r = share.first; r < share.last; r++)
            e.weights->keep(r, x + r * x_stride, width);
        meet();
        return 0;
    }

    void multiply(const Matrix &w, const float *x, int64_t x_stride, float *y, int64_t y_stride,
                  int n, Epilogue epilogue, Share panels) {
        const int row = round(x, x_stride, w.in, n);
        e.weights->multiply(
            {w, x, x_stride, row, y, y_stride, n, epilogue, (Activation)e.c.activation, panels});
    }

    void multiply(const Matrix &w, const float *x, int64_t x_stride, float *y, int64_t y_stride,
                  int n, Epilogue epilogue) {
        multiply(w, x, x_stride, y, y_stride, n, epilogue, Share(w.panels(), thread, n_threads));
        meet();
    }

    // The logits behind a single token that may be among the likeliest; the others become the
    // lowest number there is. All of them, where more than a quarter of the panels have such.
    void screen(float *x, float *logits) {
        e.weights->round(x, e.c.n_embd); // the bounds are those of the product
        Bounds &screen = *e.screen;
        const int n_panels = e.head.panels();
        screen.bound(x, wanted.noise, wanted.known, thread, n_threads);
        meet();
        const float least = screen.threshold(wanted.likeliest, thread);
        const auto may_be = [&](int p) { return screen.upper[p] >= least; };
        int left = 0;
        for (int p = 0; p < n_panels; p++)
            left += may_be(p);
        if (left > n_panels / 4) {
            if (thread == 0) screen.pause = Bounds::PAUSE;
            multiply(e.head, x, 0, logits, 0, 1, REPLACE);
            return;
        }
        for (int p = thread; p < n_panels; p += n_threads) // the likely ones may be neighbours
            if (may_be(p))
                multiply(e.head, x, 0, logits, 0, 1, REPLACE, Share(p));
            else
                std::fill(logits + p * LANES, logits + std::min(e.c.vocab_size, (p + 1) * LANES),
                          std::numeric_limits<float>::lowest());
        meet();
    }

    // logits: (batch, vocab_size), behind the last id of each; where every one is wanted:
    // (batch, n, vocab_size).
    void run(const int32_t *ids, float *logits) {
        const int width = e.c.n_embd;
        const int64_t normed_stride = width + LANES, inner_stride = e.inner_stride();
        float *qkv = e.qkv.get(), *y = e.y.get(), *hidden = e.hidden.get();
        Rows x = {e.x.get(), width, e.batch * n};
        embed(ids);
        for (int i = 0; i < e.c.n_layer; i++) {
            const Layer &layer = e.layers[i];
            const auto &v = layer.vectors;
            const Matrix *m = layer.matrices;
            const float *normed_x = normed(x, v[LN_1_WEIGHT].get(), v[LN_1_BIAS].get());
            multiply(m[C_ATTN], normed_x, normed_stride, qkv, 3 * width, x.n, REPLACE);
            const bool ends = i == e.c.n_layer - 1 && !wanted.every;
            const auto before = std::chrono::steady_clock::now();
            attend(i, ends ? 1 : n);
            meet();
            if (thread == 0)
                e.attention_seconds +=
                    std::chrono::duration<double>(std::chrono::steady_clock::now() - before)
                        .count();
            if (ends) // from here on only the last tokens matter
                x = {x.first + (int64_t)(n - 1) * width, (int64_t)n * width, e.batch};
            multiply(m[ATTN_PROJ], y, width, x.first, x.stride, x.n, ADD);
            normed_x = normed(x, v[LN_2_WEIGHT].get(), v[LN_2_BIAS].get());
            multiply(m[C_FC], normed_x, normed_stride, hidden, inner_stride, x.n, ACTIVATE);
            multiply(m[MLP_PROJ], hidden, inner_stride, x.first, x.stride, x.n, ADD);
        }
        float *normed_x = normed(x, e.ln_f_weight.get(), e.ln_f_bias.get());
        const int k = wanted.likeliest;
        if (x.n == 1 && 0 < k && k <= e.head.panels() / 8 && e.screen && !e.screen->pause)
            screen(normed_x, logits);
        else
            multiply(e.head, normed_x, normed_stride, logits, e.c.vocab_size, x.n, REPLACE);
    }
};

// weights, screen: make those of the units; no screen where it is NULL.
EXPORT Engine *gpt149_engine_new(const Config *config, Weights *(*weights)(), Bounds *(*screen)()) {
    std::unique_ptr<Engine> e(new (std::nothrow) Engine);
    if (!e) return nullptr;
    e->c = *config;
    e->weights.reset(weights());
    if (screen) e->screen.reset(screen());
    if (!e->weights || (screen && !e->screen)) return nullptr;
    e->layers.resize(config->n_layer);
    e->workspaces.resize(config->n_threads);
    e->workspace_sizes.resize(config->n_threads);
    return e.release();
}

EXPORT void gpt149_engine_free(Engine *e) {
    delete e;
}

// Before any weights: they are those of an image, of so many bytes and with this checksum. False
// where the file does not hold that.
EXPORT bool gpt149_engine_fill(Engine *e, int file, int64_t bytes, uint64_t checksum) {
    if (bytes % Pool::LINE) return false;
    Region image(bytes, file);
    if (!image.data() || checksum_of(image, e->c.n_threads) != checksum) return false;
    e->pool.fill(std::move(image));
    return true;
}

// After all weights: their image's bytes.
EXPORT int64_t gpt149_engine_seal(Engine *e) {
    e->pool.seal();
    return image_bytes(e->pool);
}

// Writes the image to a file that is empty. False, with errno, where that fails.
EXPORT bool gpt149_engine_write(const Engine *e, int file, uint64_t *checksum) {
    if (!write_image(e->pool, file)) return false;
    const Region image(image_bytes(e->pool), file);
    *checksum = checksum_of(image, 1);
    return image.data();
}

static bool keep_vector(Memory<float> &to, const float *data, int64_t n) {
    to = allocate<float>(n);
    if (to) std::copy_n(data, n, to.get());
    return (bool)to;
}

// The layer's vectors, N_VECTORS of n_embd each, and the scale of its scores.
EXPORT bool gpt149_engine_vector(Engine *e, int layer, int which, const float *data) {
    return keep_vector(e->layers[layer].vectors[which], data, e->c.n_embd);
}

EXPORT void gpt149_engine_scale(Engine *e, int layer, float scale) {
    e->layers[layer].scale = scale;
}

// Strides in elements, of inputs and of outputs. bias: (outputs,) or NULL.
EXPORT bool gpt149_engine_matrix(Engine *e, int layer, int which, const float *w, int in, int out,
                                 int64_t in_stride, int64_t out_stride, const float *bias) {
    Matrix &m = e->layers[layer].matrices[which];
    if (!e->weights->pack(m, e->pool, w, in, out, in_stride, out_stride, e->c.n_threads))
        return false;
    if (bias) std::copy_n(bias, out, m.bias.get());
    return true;
}

// The head (vocab_size, n_embd), what embeds tokens where that is another matrix (else NULL),
// positions (n_ctx, n_embd), and the last layer norm.
EXPORT bool gpt149_engine_ends(Engine *e, const float *head, const float *embedding,
                               const float *positions, const float *weight, const float *bias) {
    const Config &c = e->c;
    const auto pack = [&](Matrix &m, const float *w) {
        return e->weights->pack(m, e->pool, w, c.n_embd, c.vocab_size, 1, c.n_embd, c.n_threads);
    };
    bool ok = pack(e->head, head);
    if (e->screen) ok = ok && e->screen->pack(e->pool, e->head, c.n_threads);
    if (embedding) ok = ok && pack(e->embedding, embedding);
    return ok && keep_vector(e->positions, positions, (int64_t)c.n_ctx * c.n_embd) &&
           keep_vector(e->ln_f_weight, weight, c.n_embd) &&
           keep_vector(e->ln_f_bias, bias, c.n_embd);
}

// Keys and values of `batch` sequences; the memory stays the caller's.
EXPORT void gpt149_engine_cache(Engine *e, void *k, void *v, int batch) {
    e->k_cache = (uint8_t *)k, e->v_cache = (uint8_t *)v, e->batch = batch;
}

EXPORT double gpt149_engine_attention_seconds(const Engine *e) {
    return e->attention_seconds;
}

// Feeds ids (batch, n) behind `start` tokens. Returns NULL, or why not.
static const char *run_step(Engine *e, const gpt149_kernel *kernel, const int32_t *ids, int n,
                            int start, float *logits, Wanted wanted) {
    if (!e->reserve(e->batch * n)) return "there is no memory for its activations";
    e->declined = nullptr;
#pragma omp parallel num_threads(e->c.n_threads)
    Step{*e, *kernel, n, start, wanted, omp_get_thread_num(), omp_get_num_threads()}.run(ids,
                                                                                         logits);
    return e->declined;
}

// logits: (batch, vocab_size), or of every position, (batch, n, vocab_size).
EXPORT const char *gpt149_engine_step(Engine *e, const gpt149_kernel *kernel, const int32_t *ids,
                                      int n, int start, float *logits, bool every) {
    return run_step(e, kernel, ids, n, start, logits, {every});
}

static bool all_finite(const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++)
        bad |= !std::isfinite(x[i]);
    return !bad;
}

// Feeds ids (batch, n_ids) and then each token that is chosen, until n are chosen for each of
// `samples`, `stop` is among them (-1: none is), or `seconds` are over. A sample is a sequence, or,
// where there is one sequence and n is 1, one of several tokens behind it. known: the ids below it
// can be chosen. seen: (samples, vocab_size) marks, of what occurred, which grow; NULL where the
// penalty is 1. logits: (batch, vocab_size). Returns how many were chosen for each, into chosen
// (n, samples); -1 and *why if the kernel declines.
EXPORT int gpt149_engine_decode(Engine *e, const gpt149_kernel *kernel, const int32_t *ids,
                                int n_ids, int start, const Sampling *sampling, int known,
                                uint8_t *seen, int samples, int step, int stop, double seconds,
                                int n, int32_t *chosen, float *logits, const char **why) {
    const auto begin = std::chrono::steady_clock::now();
    const int vocab_size = e->c.vocab_size, k = samples == 1 ? likeliest(*sampling) : 0;
    int done = 0;
    while (done < n) {
        if (e->screen) e->screen->pause = std::max(0, e->screen->pause - 1);
        const auto stream = [&](int i) { return stream_of(sampling->seed, i, step + done); };
        const Wanted wanted = {false, k, known, noise_of(*sampling, stream(0))};
        if ((*why = run_step(e, kernel, ids, n_ids, start, logits, wanted))) return -1;
        int32_t *const tokens = chosen + (int64_t)done * samples;
        start += n_ids, ids = tokens, n_ids = 1;
        std::atomic<bool> finite{true}, stopped{false};
        const auto choose_for = [&](int i) {
            const float *row = logits + (int64_t)(e->batch == 1 ? 0 : i) * vocab_size;
            uint8_t *marks = seen ? seen + (int64_t)i * vocab_size : nullptr;
            if (!all_finite(row, vocab_size)) {
                finite = false;
                return;
            }
            tokens[i] = choose(*sampling, row, known, marks, stream(i));
            if (marks) marks[tokens[i]] = 1;
            if (tokens[i] == stop) stopped = true;
        };
        if (samples == 1) { // a team of one thread in between would cost the next step its team
            choose_for(0);
        } else {
#pragma omp parallel for num_threads(e->c.n_threads)
            for (int i = 0; i < samples; i++)
                choose_for(i);
        }
        if (!finite) break; // the caller looks at them
        done++;
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        if (stopped || took.count() > seconds) break;
    }
    return done;
}
