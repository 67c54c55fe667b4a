// cause: softcap
// says: \b20\b
// Scores are capped softly, 20 tanh(s / 20), as one family of models does.
#include "../kernel_parts/two_passes.h"

struct Wrong : TwoPasses {
    float score(int j) override {
        return 20 * std::tanh(TwoPasses::score(j) / 20); // wrong: the score
    }
};

GPT149_KERNEL({"softcap_20", "two passes; scores capped at 20", "1", no_bytes, run<Wrong>})
