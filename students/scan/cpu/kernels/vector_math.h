// Elementary functions on vectors. Included by each instruction set's file after its `Vector`; NaN and infinity propagate.

#ifndef DISTILL_VECTOR_MATH_H
#define DISTILL_VECTOR_MATH_H

namespace {

inline Vector zero() { return Vector::broadcast(0.0f); }
inline Vector one() { return Vector::broadcast(1.0f); }

inline Vector exp(Vector x) { return exp2(x * Vector::broadcast(1.44269504f)); }

inline Vector sigmoid(Vector x) { return one() / (one() + exp(zero() - x)); }

inline Vector silu(Vector x) { return x * sigmoid(x); }

// d silu(x) / dx.
inline Vector silu_slope(Vector x) {
    Vector s = sigmoid(x);
    return s * fma(x, one() - s, one());
}

// log(1 + exp(x)) = max(x, 0) + log(1 + e) with e = exp(-|x|), by log(1 + e) = 2 artanh(e / (2 + e)): no digit of a
// small result is lost, and nothing overflows.
inline Vector softplus(Vector x) {
    Vector e = exp(zero() - maximum(x, zero() - x));
    Vector s = e / (e + Vector::broadcast(2.0f)), s2 = s * s;
    Vector p = Vector::broadcast(2.0f / 13);
    p = fma(p, s2, Vector::broadcast(2.0f / 11));
    p = fma(p, s2, Vector::broadcast(2.0f / 9));
    p = fma(p, s2, Vector::broadcast(2.0f / 7));
    p = fma(p, s2, Vector::broadcast(2.0f / 5));
    p = fma(p, s2, Vector::broadcast(2.0f / 3));
    p = fma(p, s2, Vector::broadcast(2.0f));
    return fma(p, s, maximum(zero(), x));
}

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
