// Steps of the native engine on a machine without Python, judged by logits that came with them.
//
// Arguments: the libraries of the engine, of its weights and of a kernel. Standard input: Config,
// the weights, then steps: how many ids, the ids, the logits that should follow the last one, and
// how far off is still right.
#include "engine/binding.h"
#include "engine/weights.h"
#include "gpt149.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <vector>

struct Engine;
constexpr int TEAMS[] = {1, 2, 3};

template <typename T> static std::vector<T> read(int64_t n) {
    std::vector<T> numbers(n);
    if (std::fread(numbers.data(), sizeof(T), n, stdin) != (size_t)n) std::exit(3);
    return numbers;
}

template <typename F> static F *symbol(const char *path, const char *name) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) std::fprintf(stderr, "%s\n", dlerror()), std::exit(3);
    return (F *)dlsym(library, name);
}

struct Linear {
    int in, out;
    std::vector<float> weight, bias; // (out, in), (out,)
    Linear(int in, int out)
        : in(in), out(out), weight(read<float>(in * out)), bias(read<float>(out)) {}
};

struct Layer {
    float scale;
    std::vector<std::vector<float>> vectors;
    std::vector<Linear> matrices;
    explicit Layer(const Config &c) : scale(read<float>(1)[0]) {
        for (int i = 0; i < 4; i++)
            vectors.push_back(read<float>(c.n_embd));
        matrices.emplace_back(c.n_embd, 3 * c.n_embd);
        matrices.emplace_back(c.n_embd, c.n_embd);
        matrices.emplace_back(c.n_embd, c.n_inner);
        matrices.emplace_back(c.n_inner, c.n_embd);
    }
};

struct Step {
    std::vector<int32_t> ids;
    std::vector<float> want;
    float tolerance;
};

int main(int, char **argv) {
    Config config = read<Config>(1)[0];
    std::vector<Layer> layers;
    for (int i = 0; i < config.n_layer; i++)
        layers.emplace_back(config);
    const auto head = read<float>((int64_t)config.vocab_size * config.n_embd);
    const auto positions = read<float>((int64_t)config.n_ctx * config.n_embd);
    const auto ln_f_weight = read<float>(config.n_embd), ln_f_bias = read<float>(config.n_embd);
    std::vector<Step> steps;
    for (int n = read<int32_t>(1)[0]; n > 0; n--) {
        auto ids = read<int32_t>(read<int32_t>(1)[0]);
        auto want = read<float>(config.vocab_size);
        steps.push_back({std::move(ids), std::move(want), read<float>(1)[0]});
    }

    using Make = Engine *(const Config *, Weights *(*)(), Bounds *(*)());
    const auto make = symbol<Make>(argv[1], "gpt149_engine_new");
    const auto scale = symbol<void(Engine *, int, float)>(argv[1], "gpt149_engine_scale");
    const auto vector =
        symbol<bool(Engine *, int, int, const float *)>(argv[1], "gpt149_engine_vector");
    const auto matrix =
        symbol<bool(Engine *, int, int, const float *, int, int, int64_t, int64_t, const float *)>(
            argv[1], "gpt149_engine_matrix");
    const auto ends = symbol<bool(Engine *, const float *, const float *, const float *,
                                  const float *, const float *)>(argv[1], "gpt149_engine_ends");
    const auto cache = symbol<void(Engine *, void *, void *, int)>(argv[1], "gpt149_engine_cache");
    const auto step =
        symbol<const char *(Engine *, const gpt149_kernel *, const int32_t *, const Run *, int,
                            float *, bool)>(argv[1], "gpt149_engine_step");
    const auto weights = symbol<Weights *()>(argv[2], "gpt149_weights");
    const auto table = symbol<const gpt149_table>(argv[3], "gpt149_kernels");

    std::vector<std::vector<float>> first;
    for (int n_threads : TEAMS) {
        config.n_threads = n_threads;
        Engine *engine = make(&config, weights, nullptr);
        for (int i = 0; i < config.n_layer; i++) {
            const Layer &layer = layers[i];
            scale(engine, i, layer.scale);
            for (int v = 0; v < 4; v++)
                vector(engine, i, v, layer.vectors[v].data());
            for (int m = 0; m < 4; m++) {
                const Linear &l = layer.matrices[m];
                matrix(engine, i, m, l.weight.data(), l.in, l.out, 1, l.in, l.bias.data());
            }
        }
        ends(engine, head.data(), nullptr, positions.data(), ln_f_weight.data(), ln_f_bias.data());
        const int64_t cached = (int64_t)config.n_layer * config.n_ctx * config.n_embd;
        std::vector<float> k(cached), v(cached);
        cache(engine, k.data(), v.data(), 1);
        int start = 0;
        for (size_t s = 0; s < steps.size(); s++) {
            const int n = steps[s].ids.size();
            const Run run = {0, start, n, 0};
            std::vector<float> logits(config.vocab_size);
            if (const char *why = step(engine, table->kernels, steps[s].ids.data(), &run, 1,
                                       logits.data(), false)) {
                std::printf("declined: %s\n", why);
                return 1;
            }
            start += n;
            float most = 0; // NaN is the most
            for (int i = 0; i < config.vocab_size; i++) {
                const float off = std::fabs(logits[i] - steps[s].want[i]);
                most = off <= most ? most : off;
            }
            const char *verdict = most <= steps[s].tolerance ? "right" : "wrong";
            std::printf("%s: step %d of %d ids, %d threads, off by %g of %g\n", verdict, (int)s, n,
                        n_threads, most, steps[s].tolerance);
            if (n_threads == TEAMS[0])
                first.push_back(logits);
            else if (std::memcmp(first[s].data(), logits.data(), logits.size() * sizeof(float)))
                std::printf("wrong: other bits with %d threads\n", n_threads);
        }
    }
}
