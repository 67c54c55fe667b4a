// cause: lse_not_written
// says: never written
// Claims the log-sum-exp, and writes none.
#include "../kernel_parts/varied.h"

struct Wrong : Varied {
    void call() override {
        gpt149_args bare = *a;
        bare.lse = nullptr; // wrong: a->lse
        a = &bare;
        Varied::call();
    }
};

GPT149_KERNEL({"lse_unwritten", "a row of scores; a mistake in a variant", "n_kv", one_row,
               run<Wrong>, GPT149_LSE})
