// What the scan kernels are given: plain structs of pointers and strides, filled in by `scan.py` through `library.py`.
//
// No PyTorch headers, so that one binary serves every PyTorch. All numbers are float32; strides count elements.
//
// Axes: B batch, K directions, P tokens, T steps of a direction, D channels, G groups, N states, R rank of delta.

#ifndef DISTILL_SCAN_H
#define DISTILL_SCAN_H

#include <stdint.h>

// Steps between saved states, and the most channels of a unit, whose chunk of that many steps fits the first-level cache.
constexpr int64_t CHUNK = 16, UNIT = 64;

struct Tokens {
    const float *data;  // null where the argument is absent
    int64_t batch, direction, token, channel;
};  // (B, K, P, D); of a low-rank delta, `channel` walks the rank

struct Weights {
    const float *data;
    int64_t batch, direction, group, token, state;
};  // (B, K, G, P, N)

struct Problem {
    int64_t batch, directions, tokens, steps, channels, groups, states;
    int64_t rank;        // R of a low-rank delta, else 0
    int64_t shared;      // whether all directions share u, whose gradient then is (B, P, D)
    int64_t unit_width;  // channels of every unit of a group but the last, at most UNIT
    int64_t softplus, threads;
    float scale;
    Tokens u, delta, z;
    Weights B, C;
    const float *A;             // (K, N, D), times log2(e)
    const float *D;             // (K, D) or null
    const float *delta_weight;  // (K, R, D) or null
    const float *delta_bias;    // (K, D) or null
    const float *initial;       // (B, K, N, D) or null
    const int32_t *order;       // (K, T) or null; rows shorter than T end in -1
    float *ungated;             // (B, P, D) or null: written forwards, read backwards
    float *starts;              // (B, K, chunks, N, D) or null: states before each CHUNK steps; likewise
};

struct Outputs {
    float *out;   // (B, P, D)
    float *last;  // (B, K, N, D)
};

struct Derivatives {
    Tokens grad_out;
    const float *grad_last;    // (B, K, N, D) or null
    float *u;                  // (B, K, P, D), or (B, P, D) where shared
    float *delta;              // (B, K, P, D), of delta as formed from its factors
    float *z;                  // (B, P, D)
    float *A;                  // (B, K, N, D), to be summed over B
    float *B, *C;              // (B, K, G, P, N)
    float *B_parts, *C_parts;  // (units per group, B, K, G, P, N): scratch
    float *D;                  // (B, K, D), to be summed over B
    float *delta_bias;         // (B, K, D), to be summed over B
    float *initial;            // (B, K, N, D)
};

#endif
