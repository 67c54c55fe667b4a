// cause: crash
// Throws an exception.
#include "../kernel_parts/rows.h"

#include <stdexcept>
#include <string>

static const char *throwing(const gpt149_args *a) {
    if (a->n_q > 1) throw std::runtime_error("n_q is " + std::to_string(a->n_q)); // wrong
    return run<Rows>(a);
}

GPT149_KERNEL({"throws", "a row of scores; throws", "n_kv", one_row, throwing})
