// What the kernels of the depth-wise convolution along time are given.
//
// Axes: B batch, K directions, P tokens, D channels, W taps.

#ifndef DISTILL_CONV_H
#define DISTILL_CONV_H

#include <stdint.h>

// Tokens that are worked on by one thread at a time.
constexpr int64_t CONV_TILE = 128;

// Tap w of direction k reads token t + offsets[k] + w * strides[k]: -(W - 1) and 1 make a causal convolution, W - 1 and
// -1 that of the reversed sequence. Tokens beyond the ends are zero.
struct Convolution {
    int64_t batch, directions, tokens, channels, taps, silu, threads;
    const int64_t *offsets, *strides;  // (K,)
    const float *x;                    // (B, P, D), channels contiguous
    int64_t x_batch, x_token;          // its strides
    const float *weight;               // (W, D)
    const float *bias;                 // (D,)
    float *out;                        // (B, K, P, D)
    // Backwards only.
    const float *grad_out;  // (B, K, P, D)
    float *grad_sum;        // (B, K, P, D): scratch, the gradient before the activation
    float *grad_x;          // (B, P, D)
    float *grad_weight;     // (B * tiles, W, D), to be summed over the first
    float *grad_bias;       // (B * tiles, D), to be summed over the first
};

#endif
