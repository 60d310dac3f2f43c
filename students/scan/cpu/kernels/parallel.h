// Work units over threads, with denormal numbers flushed to zero: decaying states would otherwise reach them and crawl.

#ifndef DISTILL_PARALLEL_H
#define DISTILL_PARALLEL_H

#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

class FlushDenormals {
  public:
#if defined(__SSE2__)
    FlushDenormals() : before(_mm_getcsr()) { _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }

  private:
    unsigned before;
#else
    FlushDenormals() {}
#endif
};

// Calls worker(unit) once for every unit, on several threads, each with a worker of its own from `hire()`.
//
// Which thread takes which unit is left to chance; results must not depend on it. With OpenMP the threads are those
// that PyTorch already runs on, when both are linked to the same runtime.
template <class Hire>
void for_each_unit(int64_t threads, int64_t units, Hire hire) {
    std::atomic<int64_t> next{0};
    auto work = [&] {
        FlushDenormals scope;
        auto worker = hire();
        for (int64_t unit = next++; unit < units; unit = next++) worker(unit);
    };
    threads = std::max<int64_t>(1, std::min(threads, units));
    if (threads == 1) {
        work();
        return;
    }
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    work();
#else
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; i++) others.emplace_back(work);
    work();
    for (auto &other : others) other.join();
#endif
}

}  // namespace

#endif
