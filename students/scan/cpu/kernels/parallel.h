// Pieces of work over threads, with denormal numbers flushed to zero: decaying states would otherwise reach them and crawl.

#ifndef DISTILL_PARALLEL_H
#define DISTILL_PARALLEL_H

#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace {

// Flushes denormal operands and results to zero, on x86 and 64-bit Arm.
class FlushDenormals {
  public:
#if defined(__SSE2__)
    FlushDenormals() : before(_mm_getcsr()) { _mm_setcsr(before | 0x8040); }  // FTZ and DAZ
    ~FlushDenormals() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" ::"r"(before | 1ull << 24));  // FZ
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before)); }
#endif

  private:
#if defined(__aarch64__)
    uint64_t before = 0;
#else
    unsigned before = 0;
#endif
};

// Calls worker(piece) once for every piece of the work, on several threads, each with a worker of its own from `hire()`.
//
// Which thread takes which piece is left to chance; results must not depend on it. With OpenMP the threads are those
// that PyTorch already runs on, when both are linked to the same runtime.
template <class Hire>
void for_each_piece(int64_t threads, int64_t pieces, Hire hire) {
    std::atomic<int64_t> next{0};
    auto work = [&] {
        FlushDenormals scope;
        auto worker = hire();
        for (int64_t piece = next++; piece < pieces; piece = next++) worker(piece);
    };
    threads = std::max<int64_t>(1, std::min(threads, pieces));
    if (threads == 1) {
        work();
        return;
    }
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
    work();
#else
    std::vector<std::thread> others;
    others.reserve(threads - 1);
    try {
        for (int64_t i = 1; i < threads; i++) others.emplace_back(work);
    } catch (const std::system_error &) {  // no more threads to be had: those that started share the work
    }
    work();
    for (auto &other : others) other.join();
#endif
}

}  // namespace

#endif
