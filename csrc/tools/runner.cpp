// runner: makes a call of a kernel in a process of its own, for the sanitizers: what they report
// carries the kernel's own file and line.
//
// Linked with a kernel file, whose table it reads.
// Arguments: the kernel's name. Standard input: a case, see call.h.
#include "call.h"

int main(int, char **argv) {
    using namespace gpt149_runner;
    const gpt149_kernel &kernel = find(argv[1]);
    Head head;
    if (std::fread(&head, sizeof head, 1, stdin) != 1) return NOT_THERE;
    Call call(head.args);
    const char *why = nullptr;
    for (int i = 0; i < head.repeats && !why; i++)
        why = head.at_once ? call.run_heads_at_once(kernel) : call.run(kernel, head.args.n_threads);
    if (why) std::fprintf(stderr, "declined: %s\n", why);
    return why ? DECLINED : FINE;
}
