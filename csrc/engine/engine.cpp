// engine: whole steps of a GPT-2 in plain C++, around any attention kernel of the contract.
//
// A step is one parallel region over the tokens of all sequences, one behind the other as rows.
// Threads share out the columns of every product and the heads, or the sequences, of the attention,
// where each calls the kernel for its own with n_threads = 1 (attention.h); between these they meet
// at a barrier, five times a layer (nine times where there are many rows).
// gpt149/model/gpt.py says the same in torch and is the specification.
//
// Decode is bound by reading the weights, prefill by the FMA units: see matrix.h.
#include "engine/attention.h"
#include "engine/image.h"
#include "engine/sample.h"

#include <chrono>
#include <limits>
#include <omp.h>
#include <sched.h>

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
#elif defined(__aarch64__)
            __asm__ volatile("isb"); // `yield` does nothing on most
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
    Attention attention;
    int rows = 0;                    // tokens that the buffers hold
    Memory<float> x, qkv, y, hidden; // (rows, width)
    Memory<float> norm;              // a row a thread
    Barrier barrier;

    explicit Engine(const Config &config) : c(config), layers(c.n_layer), attention(c) {}

    // Rows 4 KB apart would all fall into the same sets of the cache.
    int inner_stride() const { return c.n_inner + LANES; }

    bool reserve(int n) {
        if (n <= rows) return true;
        x = allocate<float>((int64_t)n * c.n_embd);
        norm = allocate<float>((int64_t)c.n_threads * (c.n_embd + LANES));
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

// Which logits of a step somebody looks at: behind each id, or behind the last of each run;
// all of them, or, where likeliest > 0, so many of the largest, noise included, of ids below
// `known`.
struct Wanted {
    bool every;
    int likeliest = 0, known = 0;
    const Noise *noise = nullptr; // (runs,)
};

static int n_rows(const std::vector<Run> &runs) {
    return runs.back().row + runs.back().n;
}

// One step of one thread.
struct Step {
    Engine &e;
    const gpt149_kernel &kernel;
    const std::vector<Run> &runs;
    Wanted wanted;
    int thread, n_threads;

    void meet() { e.barrier.wait(n_threads); }

    // Row r of x normed, in a buffer of this thread's.
    float *normed(int r, const float *weight, const float *bias) const {
        const int width = e.c.n_embd;
        float *own = e.norm.get() + (int64_t)thread * (width + LANES);
        layer_norm(e.x.get() + (int64_t)r * width, weight, bias, width, e.c.layer_norm_epsilon,
                   own);
        return own;
    }

    // Keeps n rows for products, of `row(r)` each; the row from which on. A single row each thread
    // keeps for itself, which spares a meeting.
    template <typename F> int keep(int n, int width, const F &row) {
        if (n == 1) {
            e.weights->keep(thread, row(0), width);
            return thread;
        }
        const Share share(n, thread, n_threads);
        for (int r = share.first; r < share.last; r++)
            e.weights->keep(r, row(r), width);
        meet();
        return 0;
    }

    int keep_normed(int n, const float *weight, const float *bias) {
        return keep(n, e.c.n_embd, [&](int r) { return normed(r, weight, bias); });
    }

    int keep_rows(int n, int width, const float *x, int64_t x_stride) {
        return keep(n, width, [=](int r) { return x + r * x_stride; });
    }

    void embed(const int32_t *ids) {
        const int width = e.c.n_embd;
        const Share share(n_rows(runs), thread, n_threads);
        const Matrix &table = e.embedding.in ? e.embedding : e.head;
        for (const Run &run : runs)
            for (int r = std::max(share.first, run.row); r < std::min(share.last, run.row + run.n);
                 r++) {
                float *x = e.x.get() + (int64_t)r * width;
                const int64_t position = run.start + r - run.row;
                e.weights->row(table, ids[r], x);
                for (int i = 0; i < width; i++)
                    x[i] += e.positions.get()[position * width + i];
            }
        meet();
    }

    // x of each run's last row alone: nobody else looks at it meanwhile.
    void keep_last_rows() {
        const int width = e.c.n_embd;
        for (size_t s = 0; s < runs.size(); s++) // to a row that was read, or is its own
            std::memmove(e.x.get() + (int64_t)s * width,
                         e.x.get() + (int64_t)(runs[s].row + runs[s].n - 1) * width,
                         width * sizeof(float));
    }

    // Rows that are kept, from `row` on, times w.
    void multiply(const Matrix &w, int row, float *y, int64_t y_stride, int n, Epilogue epilogue,
                  Share panels) const {
        e.weights->multiply({w, row, y, y_stride, n, epilogue, (Activation)e.c.activation, panels});
    }

    void multiply(const Matrix &w, int row, float *y, int64_t y_stride, int n, Epilogue epilogue) {
        multiply(w, row, y, y_stride, n, epilogue, Share(w.panels(), thread, n_threads));
        meet();
    }

    // The logits of n rows that may be among a row's likeliest; the others become the lowest number
    // there is. All of them, where more than a quarter of the panels have such.
    void screen(int n, float *logits) {
        Bounds &screen = *e.screen;
        const Share share(n, thread, n_threads);
        for (int r = share.first; r < share.last; r++) {
            float *x = normed(r, e.ln_f_weight.get(), e.ln_f_bias.get());
            e.weights->round(x, e.c.n_embd); // the bounds are the product's
            screen.keep(r, x, thread);
            e.weights->keep(r, x, e.c.n_embd);
        }
        meet();
        screen.bound(n, wanted.noise, wanted.known, thread, n_threads);
        meet();
        for (int r = share.first; r < share.last; r++)
            screen.find_least(r, wanted.likeliest, thread);
        meet();
        const int n_panels = e.head.panels(), vocab_size = e.c.vocab_size;
        const auto may_be = [&](int p) {
            for (int r = 0; r < n; r++)
                if (screen.upper[(int64_t)r * n_panels + p] >= screen.least[r]) return true;
            return false;
        };
        int left = 0;
        for (int p = 0; p < n_panels; p++)
            left += may_be(p);
        if (left > n_panels / 4) {
            if (thread == 0) screen.pause = Bounds::PAUSE;
            multiply(e.head, 0, logits, vocab_size, n, REPLACE);
            return;
        }
        for (int p = thread; p < n_panels; p += n_threads) // the likely ones may be neighbours
            if (may_be(p))
                multiply(e.head, 0, logits, vocab_size, n, REPLACE, Share(p));
            else
                for (int64_t r = 0; r < n; r++)
                    std::fill(logits + r * vocab_size + p * LANES,
                              logits + r * vocab_size + std::min(vocab_size, (p + 1) * LANES),
                              std::numeric_limits<float>::lowest());
        meet();
    }

    // logits: (runs, vocab_size), behind the last id of each; where every one is wanted:
    // (rows, vocab_size).
    void run(const int32_t *ids, float *logits) {
        const int width = e.c.n_embd;
        const int64_t inner_stride = e.inner_stride();
        float *x = e.x.get(), *qkv = e.qkv.get(), *y = e.y.get(), *hidden = e.hidden.get();
        int n = n_rows(runs);
        embed(ids);
        for (int i = 0; i < e.c.n_layer; i++) {
            const Layer &layer = e.layers[i];
            const auto &v = layer.vectors;
            const Matrix *m = layer.matrices;
            int row = keep_normed(n, v[LN_1_WEIGHT].get(), v[LN_1_BIAS].get());
            multiply(m[C_ATTN], row, qkv, 3 * width, n, REPLACE);
            // From the last layer's attention on only the last tokens matter.
            const bool ends = i == e.c.n_layer - 1 && !wanted.every;
            const auto before = std::chrono::steady_clock::now();
            e.attention.attend(kernel, runs, i, layer.scale, qkv, y, ends, thread, n_threads);
            if (ends) n = runs.size();
            if (ends && thread == n_threads - 1) keep_last_rows();
            meet();
            if (thread == 0)
                e.attention.seconds +=
                    std::chrono::duration<double>(std::chrono::steady_clock::now() - before)
                        .count();
            row = keep_rows(n, width, y, width);
            multiply(m[ATTN_PROJ], row, x, width, n, ADD);
            row = keep_normed(n, v[LN_2_WEIGHT].get(), v[LN_2_BIAS].get());
            multiply(m[C_FC], row, hidden, inner_stride, n, ACTIVATE);
            row = keep_rows(n, e.c.n_inner, hidden, inner_stride);
            multiply(m[MLP_PROJ], row, x, width, n, ADD);
        }
        const int k = wanted.likeliest;
        if (0 < k && k <= e.head.panels() / 8 && e.screen && !e.screen->pause) {
            screen(n, logits);
            return;
        }
        const int row = keep_normed(n, e.ln_f_weight.get(), e.ln_f_bias.get());
        multiply(e.head, row, logits, e.c.vocab_size, n, REPLACE);
    }
};

// weights, screen: make those of the units; no screen where it is NULL.
EXPORT Engine *gpt149_engine_new(const Config *config, Weights *(*weights)(), Bounds *(*screen)()) {
    std::unique_ptr<Engine> e(new (std::nothrow) Engine(*config));
    if (!e) return nullptr;
    e->weights.reset(weights());
    if (screen) e->screen.reset(screen());
    if (!e->weights || (screen && !e->screen)) return nullptr;
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

// See Attention::cache.
EXPORT void gpt149_engine_cache(Engine *e, void *k, void *v, int slots) {
    e->attention.cache(k, v, slots);
}

EXPORT double gpt149_engine_attention_seconds(const Engine *e) {
    return e->attention.seconds;
}

// Feeds ids (rows,). Returns NULL, or why not.
static const char *run_step(Engine *e, const gpt149_kernel *kernel, const int32_t *ids,
                            const std::vector<Run> &runs, float *logits, Wanted wanted) {
    const bool screened = e->screen && wanted.likeliest > 0;
    if (!e->reserve(n_rows(runs)) ||
        (screened && !e->screen->reserve_rows(runs.size(), e->c.n_threads)))
        return "there is no memory for its activations";
    e->attention.declined = nullptr;
#pragma omp parallel num_threads(e->c.n_threads)
    Step{*e, *kernel, runs, wanted, omp_get_thread_num(), omp_get_num_threads()}.run(ids, logits);
    return e->attention.declined;
}

// ids: (rows,), those of the runs one behind the other. logits: (runs, vocab_size), or of every
// row, (rows, vocab_size).
EXPORT const char *gpt149_engine_step(Engine *e, const gpt149_kernel *kernel, const int32_t *ids,
                                      const Run *runs, int n_runs, float *logits, bool every) {
    return run_step(e, kernel, ids, {runs, runs + n_runs}, logits, {every});
}

static bool all_finite(const float *x, int n) {
    int bad = 0;
    for (int i = 0; i < n; i++)
        bad |= !std::isfinite(x[i]);
    return !bad;
}

// Feeds ids (rows,) and then each token that is chosen, until n are chosen for each of the draws,
// `stop` is among them (-1: none is), or `seconds` are over. Where n is not 1, each run has one
// draw, in their order. known: the ids below it can be chosen. seen: (draws, vocab_size) marks, of
// what occurred, which grow; NULL where the penalty is 1. logits: (runs, vocab_size). Returns how
// many were chosen for each, into chosen (n, draws); -1 and *why if the kernel declines.
EXPORT int gpt149_engine_decode(Engine *e, const gpt149_kernel *kernel, const int32_t *ids,
                                const Run *first_runs, int n_runs, const Sampling *sampling,
                                int known, uint8_t *seen, const Draw *draws, int n_draws, int stop,
                                double seconds, int n, int32_t *chosen, float *logits,
                                const char **why) {
    const auto begin = std::chrono::steady_clock::now();
    std::vector<Run> runs(first_runs, first_runs + n_runs);
    bool one_each = n_draws == n_runs;
    for (int i = 0; i < n_draws; i++)
        one_each = one_each && draws[i].run == i;
    const int vocab_size = e->c.vocab_size, k = one_each ? likeliest(*sampling) : 0;
    std::vector<Noise> noise(n_draws);
    int done = 0;
    while (done < n) {
        if (e->screen) e->screen->pause = std::max(0, e->screen->pause - 1);
        const auto stream = [&](int i) {
            return stream_of(draws[i].seed, draws[i].sample, draws[i].step + done);
        };
        for (int i = 0; i < n_draws; i++)
            noise[i] = noise_of(*sampling, stream(i));
        const Wanted wanted = {false, k, known, noise.data()};
        if ((*why = run_step(e, kernel, ids, runs, logits, wanted))) return -1;
        int32_t *const tokens = chosen + (int64_t)done * n_draws;
        ids = tokens;
        for (int i = 0; i < n_runs; i++)
            runs[i] = {runs[i].slot, runs[i].start + runs[i].n, 1, i};
        std::atomic<bool> finite{true}, stopped{false};
        const auto choose_for = [&](int i) {
            const float *row = logits + (int64_t)draws[i].run * vocab_size;
            uint8_t *marks = seen ? seen + (int64_t)i * vocab_size : nullptr;
            if (!all_finite(row, vocab_size)) {
                finite = false;
                return;
            }
            tokens[i] = choose(*sampling, row, known, marks, stream(i));
            if (marks) marks[tokens[i]] = 1;
            if (tokens[i] == stop) stopped = true;
        };
        if (n_draws == 1) { // a team of one thread in between would cost the next step its team
            choose_for(0);
        } else {
#pragma omp parallel for num_threads(e->c.n_threads)
            for (int i = 0; i < n_draws; i++)
                choose_for(i);
        }
        if (!finite) break; // the caller looks at them
        done++;
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        if (stopped || took.count() > seconds) break;
    }
    return done;
}
