// 2^x by a polynomial, for instruction sets without a table look-up. Included after `Vector`, `limit`, `round` and `scale`.

#ifndef DISTILL_VECTOR_EXP2_H
#define DISTILL_VECTOR_EXP2_H

namespace {

// Within 1.7e-7: 1.1e-7 of the polynomial and rounding. The polynomial has the least maximal relative error on [-1/2, 1/2]
// of those with value and slope of 2^x at 0, where 1 - 2^x is the rate at which a state forgets.
inline Vector exp2(Vector x) {
    x = limit(x);
    Vector whole = round(x), rest = x - whole;
    Vector p = Vector::broadcast(1.33002643e-3f);
    p = fma(p, rest, Vector::broadcast(9.66970809e-3f));
    p = fma(p, rest, Vector::broadcast(5.55055998e-2f));
    p = fma(p, rest, Vector::broadcast(2.40222812e-1f));
    p = fma(p, rest, Vector::broadcast(6.93147181e-1f));
    p = fma(p, rest, Vector::broadcast(1.0f));
    return scale(p, whole);
}

}  // namespace

#endif
