// The kernels with 8 channels per vector: AVX2 and FMA.

#include <immintrin.h>

namespace {

struct Vector {
    static constexpr int lanes = 8;
    static constexpr int states = 8;  // that stay in registers going forwards
    static constexpr int states_backward = 4;
    __m256 x;
    static Vector load(const float *p) { return {_mm256_loadu_ps(p)}; }
    static Vector broadcast(float value) { return {_mm256_set1_ps(value)}; }
    void store(float *p) const { _mm256_storeu_ps(p, x); }
    static Vector load_first(const float *p, int count) { return {_mm256_maskload_ps(p, mask(count))}; }
    Vector keep_first(int count) const { return {_mm256_and_ps(_mm256_castsi256_ps(mask(count)), x)}; }
    void store_first(float *p, int count) const { _mm256_maskstore_ps(p, mask(count), x); }

  private:
    static __m256i mask(int count) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
};

// a0 b0 a1 b1 ..: the first and the second half.
inline void interleave(Vector a, Vector b, Vector &low, Vector &high) {
    __m256 even = _mm256_unpacklo_ps(a.x, b.x), odd = _mm256_unpackhi_ps(a.x, b.x);
    low = {_mm256_permute2f128_ps(even, odd, 0x20)};
    high = {_mm256_permute2f128_ps(even, odd, 0x31)};
}

inline Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.x, b.x)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm256_sub_ps(a.x, b.x)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.x, b.x)}; }
inline Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.x, b.x, c.x)}; }
// The second operand where one is NaN.
inline Vector maximum(Vector a, Vector b) { return {_mm256_max_ps(a.x, b.x)}; }

inline Vector where_negative(Vector x, Vector a, Vector b) { return {_mm256_blendv_ps(b.x, a.x, x.x)}; }

inline Vector reciprocal(Vector x) { return {_mm256_div_ps(_mm256_set1_ps(1.0f), x.x)}; }

// The exponent of exp2, kept where 2^x is still 0 or infinity and each of the two factors of `scale` is a number.
inline Vector limit(Vector x) {
    return {_mm256_min_ps(_mm256_set1_ps(252.0f), _mm256_max_ps(_mm256_set1_ps(-252.0f), x.x))};
}

inline Vector round(Vector x) { return {_mm256_round_ps(x.x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }

// value * 2^whole for |whole| <= 252, in two factors because one would not span the range.
inline Vector scale(Vector value, Vector whole) {
    __m256i exponent = _mm256_cvtps_epi32(whole.x), half = _mm256_srai_epi32(exponent, 1);
    __m256i one = _mm256_set1_epi32(127);
    __m256i low = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    __m256i high = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(exponent, half), one), 23);
    return {_mm256_mul_ps(_mm256_mul_ps(value.x, _mm256_castsi256_ps(low)), _mm256_castsi256_ps(high))};
}

}  // namespace

#include "vector_exp2.h"

#include "kernels.h"
