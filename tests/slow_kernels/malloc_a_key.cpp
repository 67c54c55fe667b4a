// cause: allocates
// Memory for each key, taken and given back.
#include "../kernel_parts/each_key.h"

#include <cstdlib>

struct Slow : EachKey<Slow> {
    void key() {
        void *weight = std::malloc(4096);
        asm volatile("" : "+r"(weight) : : "memory"); // else the compiler does without
        std::free(weight);
    }
};
GPT149_KERNEL({"malloc_a_key", "slow", "n_threads", tiles_bytes<Slow>, run_tiles<Slow>})
