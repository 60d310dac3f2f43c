// The exported functions. Every instruction set's file defines `Vector`, includes this, and becomes a library of its
// own: in one library the linker could give an older processor a function that was compiled for a newer one.

#include "conv_kernel.h"
#include "scan_backward.h"
#include "scan_forward.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void distill_scan_forward(const Problem *p, const Outputs *outputs) { scan_forward(*p, *outputs); }
EXPORT void distill_scan_backward(const Problem *p, const Derivatives *derivatives) { scan_backward(*p, *derivatives); }
EXPORT void distill_conv_forward(const Convolution *p) { conv_forward(*p); }
EXPORT void distill_conv_backward(const Convolution *p) { conv_backward(*p); }

// Whether the threads are OpenMP's.
EXPORT int distill_openmp() {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}
