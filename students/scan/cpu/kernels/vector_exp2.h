// 2^x by a polynomial, for instruction sets without a table look-up. Included after `Vector`, `limit`, `round` and `scale`.

#ifndef DISTILL_VECTOR_EXP2_H
#define DISTILL_VECTOR_EXP2_H

namespace {

// Within 1.5e-7: 8.5e-8 of the polynomial, of least maximal relative error on [-1/2, 1/2], and rounding.
inline Vector exp2(Vector x) {
    x = limit(x);
    Vector whole = round(x), rest = x - whole;
    Vector p = Vector::broadcast(1.32534631e-3f);
    p = fma(p, rest, Vector::broadcast(9.67236749e-3f));
    p = fma(p, rest, Vector::broadcast(5.55079980e-2f));
    p = fma(p, rest, Vector::broadcast(2.40222236e-1f));
    p = fma(p, rest, Vector::broadcast(6.93146888e-1f));
    p = fma(p, rest, Vector::broadcast(1.0f));
    return scale(p, whole);
}

}  // namespace

#endif
