// The kernels with 16 channels per vector: AVX-512.

#include <immintrin.h>

namespace {

// 2^(i / 32).
alignas(64) const float roots[32] = {
    1.0f, 1.02189715f, 1.04427378f, 1.0671404f, 1.09050773f, 1.11438674f, 1.13878863f, 1.16372486f,
    1.18920712f, 1.21524736f, 1.24185781f, 1.26905096f, 1.29683955f, 1.32523664f, 1.35425555f, 1.38390988f,
    1.41421356f, 1.44518081f, 1.47682615f, 1.50916443f, 1.54221083f, 1.57598085f, 1.61049033f, 1.64575548f,
    1.68179283f, 1.7186193f, 1.75625216f, 1.79470908f, 1.83400809f, 1.87416763f, 1.91520656f, 1.95714412f};

struct Vector {
    static constexpr int lanes = 16;
    static constexpr int states = 16;  // that stay in registers going forwards
    static constexpr int states_backward = 8;
    __m512 x;
    static Vector load(const float *p) { return {_mm512_loadu_ps(p)}; }
    static Vector broadcast(float value) { return {_mm512_set1_ps(value)}; }
    void store(float *p) const { _mm512_storeu_ps(p, x); }
    static Vector load_first(const float *p, int count) { return {_mm512_maskz_loadu_ps((1u << count) - 1, p)}; }
    Vector keep_first(int count) const { return {_mm512_maskz_mov_ps((1u << count) - 1, x)}; }
    void store_first(float *p, int count) const { _mm512_mask_storeu_ps(p, (1u << count) - 1, x); }
};

// a0 b0 a1 b1 ..: the first and the second half.
inline void interleave(Vector a, Vector b, Vector &low, Vector &high) {
    const __m512i even = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    low = {_mm512_permutex2var_ps(a.x, even, b.x)};
    high = {_mm512_permutex2var_ps(a.x, _mm512_add_epi32(even, _mm512_set1_epi32(8)), b.x)};
}

inline Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.x, b.x)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm512_sub_ps(a.x, b.x)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.x, b.x)}; }
inline Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.x, b.x, c.x)}; }
// The second operand where one is NaN.
inline Vector maximum(Vector a, Vector b) { return {_mm512_max_ps(a.x, b.x)}; }

inline Vector where_negative(Vector x, Vector a, Vector b) {
    return {_mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x.x)), b.x, a.x)};
}

// 1 / x within 1e-7 for x in [1, 2]: a table's 14 bits and a step of Newton's, several times faster than a division.
inline Vector reciprocal(Vector x) {
    __m512 y = _mm512_rcp14_ps(x.x);
    return {_mm512_fmadd_ps(y, _mm512_fnmadd_ps(x.x, y, _mm512_set1_ps(1.0f)), y)};
}

// 2^x within 2e-7. With x = whole + i / 32 + rest, 2^(i / 32) comes from two registers and 2^rest from three terms of its
// series: the multipliers are what the scan waits for, and this needs four of them where a polynomial alone needs five.
// A parabola within 1e-7 is not enough. Its slope at 0 is wrong by 2e-5, and so is 1 - 2^x, the rate at which a state forgets:
// the error of a slow state would be that of all the steps that it remembers.
inline Vector exp2(Vector x) {
    const __m512 low = _mm512_load_ps(roots), high = _mm512_load_ps(roots + 16);
    const __m512 shift = _mm512_set1_ps(393216.0f);  // leaves five binary places
    __m512 shifted = _mm512_add_ps(x.x, shift), rounded = _mm512_sub_ps(shifted, shift), rest = _mm512_sub_ps(x.x, rounded);
    __m512 entry = _mm512_permutex2var_ps(low, _mm512_castps_si512(shifted), high);
    __m512 slope = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.0555041087f), _mm512_set1_ps(0.240226507f));
    slope = _mm512_fmadd_ps(rest, slope, _mm512_set1_ps(0.693147181f));
    __m512 value = _mm512_fmadd_ps(_mm512_mul_ps(rest, entry), slope, entry);
    // Rounds the exponent down, and takes infinite ones: there `value` is NaN, of which it makes 0 or infinity.
    return {_mm512_scalef_ps(value, rounded)};
}

}  // namespace

#include "kernels.h"
