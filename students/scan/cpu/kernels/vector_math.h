// Elementary functions on vectors. Included by each instruction set's file after its `Vector`; NaN and infinity propagate.

#ifndef DISTILL_VECTOR_MATH_H
#define DISTILL_VECTOR_MATH_H

namespace {

// The first `count` lanes, or all if there are not as many.
inline Vector load_some(const float *p, int64_t count) {
    return count >= Vector::lanes ? Vector::load(p) : Vector::load_first(p, (int)count);
}

inline void store_some(Vector value, float *p, int64_t count) {
    if (count >= Vector::lanes)
        value.store(p);
    else
        value.store_first(p, (int)count);
}

inline Vector zero() { return Vector::broadcast(0.0f); }
inline Vector one() { return Vector::broadcast(1.0f); }

inline Vector exp(Vector x) { return exp2(x * Vector::broadcast(1.44269504f)); }

// exp(-|x|), which never overflows.
inline Vector exp_negative(Vector x) { return exp(zero() - maximum(x, zero() - x)); }

// 1 / (1 + exp(-x)) from e = exp(-|x|).
inline Vector sigmoid(Vector x, Vector e) {
    Vector positive = reciprocal(one() + e);
    return where_negative(x, e * positive, positive);
}

inline Vector sigmoid(Vector x) { return sigmoid(x, exp_negative(x)); }

// log(1 + exp(x)) = max(x, 0) + log(1 + e) from e = exp(-|x|): log(1 + e) / e is a polynomial within 2e-7 relative on
// [0, 1], so that nothing cancels where the result is small.
inline Vector softplus(Vector x, Vector e) {
    Vector p = Vector::broadcast(4.69066429e-3f);
    p = fma(p, e, Vector::broadcast(-2.72344548e-2f));
    p = fma(p, e, Vector::broadcast(7.43113467e-2f));
    p = fma(p, e, Vector::broadcast(-0.133050703f));
    p = fma(p, e, Vector::broadcast(0.189191631f));
    p = fma(p, e, Vector::broadcast(-0.247877249f));
    p = fma(p, e, Vector::broadcast(0.333105522f));
    p = fma(p, e, Vector::broadcast(-0.499989469f));
    p = fma(p, e, Vector::broadcast(0.999999917f));
    return fma(p, e, maximum(zero(), x));
}

inline Vector silu(Vector x) { return x * sigmoid(x); }

// d silu(x) / dx from s = sigmoid(x).
inline Vector silu_slope(Vector x, Vector s) { return s * fma(x, one() - s, one()); }

// Turns rows into columns: log2(lanes) perfect shuffles.
inline void transpose(Vector (&rows)[Vector::lanes]) {
    constexpr int half = Vector::lanes / 2;
    for (int stage = 1; stage < Vector::lanes; stage *= 2) {
        Vector next[Vector::lanes];
        for (int i = 0; i < half; i++) interleave(rows[i], rows[i + half], next[2 * i], next[2 * i + 1]);
        for (int i = 0; i < Vector::lanes; i++) rows[i] = next[i];
    }
}

// The sums over lanes of as many vectors as there are lanes, in their order.
inline Vector sums(Vector (&vectors)[Vector::lanes]) {
    for (int half = Vector::lanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) {
            Vector low, high;
            interleave(vectors[i], vectors[i + half], low, high);
            vectors[i] = low + high;
        }
    return vectors[0];
}

}  // namespace

#endif
