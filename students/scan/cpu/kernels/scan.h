// The C interface of the CPU kernels: plain structs of pointers and strides, filled in by `students/scan/cpu/__init__.py`.
//
// No PyTorch headers, so that one binary serves every PyTorch. All numbers are float32; strides count elements.
//
// Axes: B batch, K directions, P tokens, T steps of a direction, D channels, G groups, N states, R rank of delta.

#ifndef DISTILL_SCAN_H
#define DISTILL_SCAN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    float *data;  // NULL where the argument is absent
    int64_t batch, direction, token, channel;
} Tokens;  // (B, K, P, D); `direction` is 0 where all directions share it; of a low-rank delta, `channel` walks the rank

typedef struct {
    float *data;
    int64_t batch, direction, group, token, state;
} Weights;  // (B, K, G, P, N)

typedef struct {
    int64_t batch, directions, tokens, steps, channels, groups, states;
    int64_t rank;           // R of a low-rank delta, else 0
    int64_t softplus, threads;
    float scale;
    Tokens u, delta, z;
    Weights B, C;
    const float *A;             // (K, N, D)
    const float *D;             // (K, D) or NULL
    const float *delta_weight;  // (K, R, D) or NULL
    const float *delta_bias;    // (K, D) or NULL
    const float *initial;       // (B, K, N, D) or NULL
    const int32_t *order;       // (K, T) or NULL; rows shorter than T end in -1
    float *ungated;             // (B, P, D) or NULL: written forwards, read backwards
    float *starts;              // (B, K, chunks, N, D) or NULL: states before each chunk of SCAN_CHUNK steps
} Problem;

typedef struct {
    float *out;   // (B, P, D)
    float *last;  // (B, K, N, D)
} Outputs;

typedef struct {
    Tokens out;          // gradient of the output
    const float *last;   // gradient of the last state (B, K, N, D), or NULL
    float *u;            // (B, K or 1, P, D)
    float *delta;        // (B, K, P, D), of delta as formed from its factors
    float *z;            // (B, P, D)
    float *A;            // (B, K, N, D), to be summed over B
    float *B, *C;        // (B, K, G, P, N)
    float *B_parts, *C_parts;  // (units per group, B, K, G, P, N): scratch
    float *D;            // (B, K, D), to be summed over B
    float *delta_bias;   // (B, K, D), to be summed over B
    float *initial;      // (B, K, N, D)
} Derivatives;

// Steps between saved states, and the most channels that one thread works on at a time.
enum { SCAN_CHUNK = 16, SCAN_UNIT = 64 };

// Channels of each unit of a group of `channels`: an even number of units as far as possible, whole vectors.
static inline int64_t scan_unit_width(int64_t channels) {
    int64_t units = 2 * ((channels + 2 * SCAN_UNIT - 1) / (2 * SCAN_UNIT));
    return ((channels + units - 1) / units + 15) / 16 * 16;
}

#ifdef __cplusplus
}
#endif

#endif
