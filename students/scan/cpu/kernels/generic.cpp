// The kernels with 4 channels per vector, in the vector extensions of GCC and Clang: NEON, SSE2 and whatever else.

#include <stdint.h>
#include <string.h>

namespace {

struct Vector {
    static constexpr int lanes = 4;
    static constexpr int states = 8;  // that stay in registers going forwards
    static constexpr int states_backward = 4;
    typedef float Floats __attribute__((vector_size(16)));
    typedef int32_t Integers __attribute__((vector_size(16)));
    Floats x;
    static Vector load(const float *p) {
        Vector v;
        memcpy(&v.x, p, sizeof(v.x));
        return v;
    }
    static Vector broadcast(float value) { return {Floats{value, value, value, value}}; }
    void store(float *p) const { memcpy(p, &x, sizeof(x)); }
    static Vector load_first(const float *p, int count) {
        Vector v = broadcast(0.0f);
        memcpy(&v.x, p, count * sizeof(float));
        return v;
    }
    Vector keep_first(int count) const { return load_first((const float *)&x, count); }
    void store_first(float *p, int count) const { memcpy(p, &x, count * sizeof(float)); }
};

// a0 b0 a1 b1 ..: the first and the second half.
inline void interleave(Vector a, Vector b, Vector &low, Vector &high) {
    low = {Vector::Floats{a.x[0], b.x[0], a.x[1], b.x[1]}};
    high = {Vector::Floats{a.x[2], b.x[2], a.x[3], b.x[3]}};
}

inline Vector operator+(Vector a, Vector b) { return {a.x + b.x}; }
inline Vector operator-(Vector a, Vector b) { return {a.x - b.x}; }
inline Vector operator*(Vector a, Vector b) { return {a.x * b.x}; }
inline Vector fma(Vector a, Vector b, Vector c) { return {a.x * b.x + c.x}; }
// The second operand where one is NaN.
inline Vector maximum(Vector a, Vector b) { return {a.x > b.x ? a.x : b.x}; }

inline Vector where_negative(Vector x, Vector a, Vector b) { return {x.x < 0.0f ? a.x : b.x}; }

inline Vector reciprocal(Vector x) { return {1.0f / x.x}; }

// The exponent of exp2, kept where 2^x is still 0 or infinity and each of the two factors of `scale` is a number.
inline Vector limit(Vector x) {
    Vector::Floats low = Vector::broadcast(-252.0f).x, high = Vector::broadcast(252.0f).x;
    Vector::Floats y = x.x < low ? low : x.x;
    return {y > high ? high : y};
}

// By adding a number so large that no place is left for fractions.
inline Vector round(Vector x) {
    Vector::Floats shift = Vector::broadcast(12582912.0f).x;
    return {(x.x + shift) - shift};
}

// value * 2^whole for |whole| <= 252, in two factors because one would not span the range.
inline Vector scale(Vector value, Vector whole) {
    typedef uint32_t Bits __attribute__((vector_size(16)));
    Vector::Integers exponent = (Vector::Integers)(whole.x + Vector::broadcast(12582912.0f).x) - 0x4B400000;
    Vector::Integers half = exponent >> 1;
    Bits low = (Bits)(half + 127) << 23, high = (Bits)(exponent - half + 127) << 23;
    return {value.x * (Vector::Floats)low * (Vector::Floats)high};
}

}  // namespace

#include "vector_exp2.h"

#include "kernels.h"
