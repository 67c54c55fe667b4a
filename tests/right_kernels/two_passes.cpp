// cause: none
// Maximum and sum in one pass, and the values in another, which computes the scores again.
#include "../kernel_parts/two_passes.h"

GPT149_KERNEL({"two_passes", "two passes", "1", no_bytes, run<TwoPasses>})
