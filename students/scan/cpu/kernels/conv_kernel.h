// Depth-wise convolution along time with an optional SiLU, for any number of directions at once.

#ifndef DISTILL_CONV_KERNEL_H
#define DISTILL_CONV_KERNEL_H

#include <string.h>

#include "conv.h"
#include "parallel.h"
#include "vector_math.h"

namespace {

class ConvolutionWorker {
  public:
    explicit ConvolutionWorker(const Convolution &convolution) : p(convolution) {}

    void forward(int64_t unit) {
        enter(unit);
        for (int64_t k = 0; k < p.directions; k++)
            for (int64_t t = first; t < last; t++)
                for (int64_t c = 0; c < p.channels; c += Vector::lanes) {
                    Vector sum = weighted_sum(k, t, c);
                    store_some(p.silu ? silu(sum) : sum, p.out + row(k, t) + c, p.channels - c);
                }
    }

    // The gradient before the activation, and this tile's share of the gradients of weight and bias.
    void differentiate_sum(int64_t unit) {
        enter(unit);
        float *dw = p.grad_weight + unit * p.taps * p.channels, *db = p.grad_bias + unit * p.channels;
        memset(dw, 0, p.taps * p.channels * sizeof(float));
        memset(db, 0, p.channels * sizeof(float));
        for (int64_t k = 0; k < p.directions; k++)
            for (int64_t t = first; t < last; t++)
                for (int64_t c = 0; c < p.channels; c += Vector::lanes) {
                    int64_t count = p.channels - c;
                    Vector grad = load_some(p.grad_out + row(k, t) + c, count);
                    if (p.silu) {
                        Vector sum = weighted_sum(k, t, c);
                        grad = grad * silu_slope(sum, sigmoid(sum));
                    }
                    store_some(grad, p.grad_sum + row(k, t) + c, count);
                    store_some(load_some(db + c, count) + grad, db + c, count);
                    for (int64_t w = 0; w < p.taps; w++) {
                        int64_t token = t + p.offsets[k] + w * p.strides[k];
                        if (token < 0 || token >= p.tokens) continue;
                        float *target = dw + w * p.channels + c;
                        store_some(fma(grad, load_some(input(token) + c, count), load_some(target, count)), target, count);
                    }
                }
    }

    void differentiate_input(int64_t unit) {
        enter(unit);
        for (int64_t t = first; t < last; t++)
            for (int64_t c = 0; c < p.channels; c += Vector::lanes) {
                int64_t count = p.channels - c;
                Vector sum = zero();
                for (int64_t k = 0; k < p.directions; k++)
                    for (int64_t w = 0; w < p.taps; w++) {
                        int64_t from = t - p.offsets[k] - w * p.strides[k];
                        if (from < 0 || from >= p.tokens) continue;
                        Vector grad = load_some(p.grad_sum + row(k, from) + c, count);
                        sum = fma(grad, load_some(p.weight + w * p.channels + c, count), sum);
                    }
                store_some(sum, p.grad_x + (batch * p.tokens + t) * p.channels + c, count);
            }
    }

    static int64_t units(const Convolution &p) { return p.batch * ((p.tokens + CONV_TILE - 1) / CONV_TILE); }

  private:
    void enter(int64_t unit) {
        int64_t tiles = (p.tokens + CONV_TILE - 1) / CONV_TILE;
        batch = unit / tiles;
        first = unit % tiles * CONV_TILE;
        last = std::min(p.tokens, first + CONV_TILE);
    }

    int64_t row(int64_t k, int64_t token) const { return ((batch * p.directions + k) * p.tokens + token) * p.channels; }
    const float *input(int64_t token) const { return p.x + batch * p.x_batch + token * p.x_token; }

    Vector weighted_sum(int64_t k, int64_t t, int64_t c) const {
        int64_t count = p.channels - c;
        Vector sum = load_some(p.bias + c, count);
        for (int64_t w = 0; w < p.taps; w++) {
            int64_t token = t + p.offsets[k] + w * p.strides[k];
            if (token < 0 || token >= p.tokens) continue;
            sum = fma(load_some(p.weight + w * p.channels + c, count), load_some(input(token) + c, count), sum);
        }
        return sum;
    }

    const Convolution &p;
    int64_t batch = 0, first = 0, last = 0;
};

inline void conv_forward(const Convolution &convolution) {
    for_each_piece(convolution.threads, ConvolutionWorker::units(convolution), [&] {
        return [worker = ConvolutionWorker(convolution)](int64_t unit) mutable { worker.forward(unit); };
    });
}

inline void conv_backward(const Convolution &convolution) {
    for_each_piece(convolution.threads, ConvolutionWorker::units(convolution), [&] {
        return [worker = ConvolutionWorker(convolution)](int64_t unit) mutable { worker.differentiate_sum(unit); };
    });
    for_each_piece(convolution.threads, ConvolutionWorker::units(convolution), [&] {
        return [worker = ConvolutionWorker(convolution)](int64_t unit) mutable { worker.differentiate_input(unit); };
    });
}

}  // namespace

#endif
