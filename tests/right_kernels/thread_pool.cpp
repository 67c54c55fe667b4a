// cause: none
// Three threads that outlive the call and sleep between calls; they help the caller, if the call
// may have as many, and if they are not helping another.
#include "../kernel_parts/threads.h"

#include <condition_variable>
#include <mutex>

class Pool {
    std::mutex mutex, in_use;
    std::condition_variable changed;
    std::vector<std::thread> threads;
    const gpt149_args *work = nullptr;
    int n_begun = 0, n_wanted = 0, n_busy = 0;
    bool over = false;

    static void part(const gpt149_args *a, int thread) {
        Dealt mine;
        mine.a = a;
        mine.thread = thread;
        mine.call();
    }
    void serve() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return over || n_begun < n_wanted; });
            if (over) return;
            const int thread = ++n_begun;
            lock.unlock();
            part(work, thread);
            lock.lock();
            if (--n_busy == 0) changed.notify_all();
        }
    }

  public:
    static const int N = 3;
    ~Pool() {
        {
            std::lock_guard<std::mutex> lock(mutex);
            over = true;
        }
        changed.notify_all();
        for (std::thread &one : threads)
            one.join();
    }
    // Parts 0 to n of the rows, n <= N: the caller does the first. False if others are helped.
    bool run(const gpt149_args *a, int n) {
        std::unique_lock<std::mutex> mine(in_use, std::try_to_lock);
        if (!mine) return false;
        std::unique_lock<std::mutex> lock(mutex);
        while ((int)threads.size() < n)
            threads.emplace_back([this] { serve(); });
        work = a;
        n_begun = 0;
        n_wanted = n_busy = n;
        changed.notify_all();
        lock.unlock();
        part(a, 0);
        lock.lock();
        changed.wait(lock, [&] { return n_busy == 0; });
        n_wanted = 0;
        return true;
    }
};

static const char *run_pooled(const gpt149_args *a) {
    static Pool pool;
    gpt149_args call = *a;
    call.n_threads = a->n_threads > Pool::N ? Pool::N + 1 : a->n_threads;
    if (call.n_threads > 1 && pool.run(&call, call.n_threads - 1)) return nullptr;
    call.n_threads = 1;
    return run_threads<Dealt>(&call);
}

GPT149_KERNEL({"thread_pool", "threads that are kept", "n_threads n_kv", row_a_thread, run_pooled})
