// The scan, backwards. Chunks of time are walked from the last to the first; the states of a chunk are computed again
// from the one that was saved before it. With g_t the gradient of h_t and a_t = exp(Δ_t A):
//
//     g_t = C_t dy_t + a_{t+1} g_{t+1}
//     dB_t = Σ_d g_t Δ_t u_t      dC_t = Σ_d dy_t h_t      d(Δ_t u_t) = Σ_n g_t B_t
//     dA = Σ_t Δ_t g_t a_t h_{t-1}      dΔ_t = u_t d(Δ_t u_t) + Σ_n A g_t a_t h_{t-1}
//
// a_t h_{t-1} is the product of the two, not h_t - Δ_t u_t B_t, which cancels where the decay is strong. Sums over
// channels are taken lane by lane over a unit, then over lanes, then over units, always in the same order: gradients do
// not depend on the number of threads.

#ifndef DISTILL_SCAN_BACKWARD_H
#define DISTILL_SCAN_BACKWARD_H

#include <type_traits>

#include "scan_tiles.h"

namespace {

class BackwardWorker {
  public:
    BackwardWorker(const Problem &problem, const Derivatives &derivatives)
        : p(problem),
          result(derivatives),
          tiles(problem),
          dy(CHUNK * UNIT),
          gate(CHUNK * UNIT),
          through_B(CHUNK * UNIT),
          through_A(CHUNK * UNIT),
          h((CHUNK + 1) * S * Vector::lanes),
          decay(CHUNK * S * Vector::lanes),
          lanes_B((CHUNK * S + Vector::lanes) * Vector::lanes),
          lanes_C((CHUNK * S + Vector::lanes) * Vector::lanes),
          g(problem.states * UNIT),
          dA(problem.states * UNIT),
          dD(UNIT),
          dbias(UNIT) {}

    void operator()(int64_t unit) {
        tiles.enter_unit(unit);
        for (int64_t k = 0; k < p.directions; k++) scan_direction(k);
    }

  private:
    static constexpr int S = Vector::states_backward;

    void scan_direction(int64_t k) {
        tiles.enter_direction(k);
        if (k == 0 && p.z.data && tiles.steps < p.tokens) differentiate_gate();
        for (int64_t n = 0; n < p.states; n++) {
            if (result.grad_last)
                tiles.copy_row(result.grad_last + tiles.state_offset() + n * p.channels, g + n * UNIT);
            else
                memset(g + n * UNIT, 0, UNIT * sizeof(float));
        }
        memset(dA, 0, p.states * UNIT * sizeof(float));
        memset(dD, 0, UNIT * sizeof(float));
        memset(dbias, 0, UNIT * sizeof(float));
        for (int64_t chunk = tiles.chunks - 1; chunk >= 0; chunk--) {
            const float *start = tiles.checkpoint(chunk);
            for (int64_t n = 0; n < p.states; n++) tiles.copy_row(start + n * p.channels, tiles.state + n * UNIT);
            tiles.enter_chunk(chunk, -1);
            read_gradient();
            memset(through_B, 0, CHUNK * UNIT * sizeof(float));
            memset(through_A, 0, CHUNK * UNIT * sizeof(float));
            for_each_states<S>(0, p.states, [&](auto count, int64_t n) {
                for (int64_t c = 0; c < tiles.blocks * Vector::lanes; c += Vector::lanes) {
                    recompute<count>(c, n);
                    differentiate<count>(c, n);
                }
                sum_lanes<count>(n);
            });
            finish_chunk(k);
        }
        for (int64_t n = 0; n < p.states; n++) {
            tiles.store_row(g + n * UNIT, result.initial + tiles.state_offset() + n * p.channels);
            tiles.store_row(dA + n * UNIT, result.A + tiles.state_offset() + n * p.channels);
        }
        tiles.store_row(dD, result.D + (tiles.batch * p.directions + k) * p.channels);
        tiles.store_row(dbias, result.delta_bias + (tiles.batch * p.directions + k) * p.channels);
    }

    // The gradient of what this direction adds to the sum over directions; with the first one, also that of the gate:
    // dz = dout y silu'(z), with y before the gate.
    void read_gradient() const {
        tiles.read(result.grad_out, dy, UNIT, tiles.first, tiles.width);
        if (p.z.data) tiles.read(p.z, gate, UNIT, tiles.first, tiles.width);
        for (int64_t j = 0; j < tiles.length; j++) {
            int64_t row = (tiles.batch * p.tokens + tiles.token[j]) * p.channels + tiles.first;
            for (int64_t c = 0; c < tiles.width; c += Vector::lanes) {
                Vector grad = Vector::load(dy + j * UNIT + c) * Vector::broadcast(p.scale);
                if (p.z.data) {
                    Vector z = Vector::load(gate + j * UNIT + c), s = sigmoid(z);
                    if (tiles.direction == 0) store_gradient_of_gate(z, s, Vector::load(dy + j * UNIT + c), row + c, tiles.width - c);
                    grad = grad * z * s;
                }
                grad.store(dy + j * UNIT + c);
            }
        }
    }

    void store_gradient_of_gate(Vector z, Vector s, Vector grad, int64_t at, int64_t count) const {
        store_some(grad * load_some(p.ungated + at, count) * silu_slope(z, s), result.z + at, count);
    }

    // The gradient of the gate where the first direction does not pass.
    void differentiate_gate() {
        for (int64_t t = 0; t < p.tokens; t += CHUNK) {
            tiles.enter_tokens(t);
            tiles.read(p.z, gate, UNIT, tiles.first, tiles.width);
            tiles.read(result.grad_out, dy, UNIT, tiles.first, tiles.width);
            for (int64_t j = 0; j < tiles.length; j++) {
                int64_t row = (tiles.batch * p.tokens + tiles.token[j]) * p.channels + tiles.first;
                for (int64_t c = 0; c < tiles.width; c += Vector::lanes) {
                    Vector z = Vector::load(gate + j * UNIT + c), grad = Vector::load(dy + j * UNIT + c);
                    store_gradient_of_gate(z, sigmoid(z), grad, row + c, tiles.width - c);
                }
            }
        }
    }

    // The decays and states of one chunk, `COUNT` states from `n` of the channels at `c`.
    template <int COUNT>
    void recompute(int64_t c, int64_t n) const {
        Vector state[COUNT];
        for (int i = 0; i < COUNT; i++) {
            state[i] = Vector::load(tiles.state + (n + i) * UNIT + c);
            state[i].store(h + i * Vector::lanes);
        }
        const float *A = tiles.A + n * UNIT + c;
        for (int64_t j = 0; j < tiles.length; j++) {
            Vector d = Vector::load(tiles.delta + j * UNIT + c), x = d * Vector::load(tiles.u + j * UNIT + c);
            const float *B = tiles.B + j * p.states + n;
            float *states = h + (j + 1) * COUNT * Vector::lanes, *decays = decay + j * COUNT * Vector::lanes;
#pragma GCC unroll 8
            for (int i = 0; i < COUNT; i++) {
                Vector a = exp2(d * Vector::load(A + i * UNIT));
                a.store(decays + i * Vector::lanes);
                state[i] = fma(a, state[i], x * Vector::broadcast(B[i]));
                state[i].store(states + i * Vector::lanes);
            }
        }
    }

    template <int COUNT>
    void differentiate(int64_t c, int64_t n) const {
        Vector grad[COUNT], grad_A[COUNT];
        for (int i = 0; i < COUNT; i++) {
            grad[i] = Vector::load(g + (n + i) * UNIT + c);
            grad_A[i] = Vector::load(dA + (n + i) * UNIT + c);
        }
        const float *A = tiles.A + n * UNIT + c;
        int live = (int)std::min<int64_t>(Vector::lanes, tiles.width - c);  // idle lanes may hold NaN, 0 * inf
        for (int64_t j = tiles.length - 1; j >= 0; j--) {
            Vector d = Vector::load(tiles.delta + j * UNIT + c), x = d * Vector::load(tiles.u + j * UNIT + c);
            Vector out = Vector::load(dy + j * UNIT + c);
            Vector sum_B = Vector::load(through_B + j * UNIT + c), sum_A = Vector::load(through_A + j * UNIT + c);
            const float *B = tiles.B + j * p.states + n, *C = tiles.C + j * p.states + n;
            const float *before = h + j * COUNT * Vector::lanes, *after = before + COUNT * Vector::lanes;
            const float *decays = decay + j * COUNT * Vector::lanes;
            float *dB = lanes_B + j * COUNT * Vector::lanes, *dC = lanes_C + j * COUNT * Vector::lanes;
#pragma GCC unroll 8
            for (int i = 0; i < COUNT; i++) {
                int64_t at = i * Vector::lanes;
                grad[i] = fma(Vector::broadcast(C[i]), out, grad[i]);
                Vector to_B = grad[i] * x, to_C = out * Vector::load(after + at);
                if (live < Vector::lanes) to_B = to_B.keep_first(live), to_C = to_C.keep_first(live);
                (c ? Vector::load(dB + at) + to_B : to_B).store(dB + at);
                (c ? Vector::load(dC + at) + to_C : to_C).store(dC + at);
                sum_B = fma(grad[i], Vector::broadcast(B[i]), sum_B);
                grad[i] = grad[i] * Vector::load(decays + at);
                Vector product = grad[i] * Vector::load(before + at);
                grad_A[i] = fma(product, d, grad_A[i]);
                sum_A = fma(product, Vector::load(A + i * UNIT), sum_A);
            }
            sum_B.store(through_B + j * UNIT + c);
            sum_A.store(through_A + j * UNIT + c);
        }
        for (int i = 0; i < COUNT; i++) {
            grad[i].store(g + (n + i) * UNIT + c);
            grad_A[i].store(dA + (n + i) * UNIT + c);
        }
    }

    // dB and dC of this unit.
    template <int COUNT>
    void sum_lanes(int64_t n) const {
        int64_t images = p.batch * p.directions * p.groups;
        int64_t image = (tiles.batch * p.directions + tiles.direction) * p.groups + tiles.group;
        const float *lanes[2] = {lanes_B, lanes_C};
        float *parts[2] = {result.B_parts, result.C_parts}, row[CHUNK * COUNT + Vector::lanes];
        for (int which = 0; which < 2; which++) {
            for (int64_t j = 0; j < tiles.length * COUNT; j += Vector::lanes) {
                Vector vectors[Vector::lanes];
                for (int i = 0; i < Vector::lanes; i++) vectors[i] = Vector::load(lanes[which] + (j + i) * Vector::lanes);
                sums(vectors).store(row + j);
            }
            for (int64_t j = 0; j < tiles.length; j++) {
                float *target = parts[which] + ((tiles.part * images + image) * p.tokens + tiles.token[j]) * p.states + n;
                for (int i = 0; i < COUNT; i++) target[i] = row[j * COUNT + i];
            }
        }
    }

    void finish_chunk(int64_t k) const {
        for (int64_t j = 0; j < tiles.length; j++) {
            int64_t image = tiles.batch * p.directions + k;
            float *du = result.u + ((p.shared ? tiles.batch : image) * p.tokens + tiles.token[j]) * p.channels + tiles.first;
            float *ddelta = result.delta + (image * p.tokens + tiles.token[j]) * p.channels + tiles.first;
            for (int64_t c = 0; c < tiles.width; c += Vector::lanes) {
                int64_t at = j * UNIT + c, count = tiles.width - c;
                Vector u = Vector::load(tiles.u + at), out = Vector::load(dy + at), sum_B = Vector::load(through_B + at);
                Vector to_u = fma(sum_B, Vector::load(tiles.delta + at), out * Vector::load(tiles.skip + c));
                if (p.shared && k > 0) to_u = to_u + load_some(du + c, count);
                store_some(to_u, du + c, count);
                // A is kept times log2(e).
                Vector to_delta = fma(Vector::broadcast(0.693147181f), Vector::load(through_A + at), sum_B * u);
                if (p.softplus) to_delta = to_delta * Vector::load(tiles.slope + at);
                store_some(to_delta, ddelta + c, count);
                fma(out, u, Vector::load(dD + c)).store(dD + c);
                (to_delta + Vector::load(dbias + c)).store(dbias + c);
            }
        }
    }

    const Problem &p;
    const Derivatives &result;
    Tiles tiles;
    Buffer dy, gate, through_B, through_A;  // [CHUNK][UNIT]
    Buffer h, decay, lanes_B, lanes_C;      // [CHUNK (+ 1)][S][lanes]
    Buffer g, dA, dD, dbias;                // [N][UNIT] twice, [UNIT] twice
};

// Adds up the units of every group, in order.
inline void sum_parts(const Problem &p, const float *parts, float *target) {
    constexpr int64_t slice = 1 << 14;
    int64_t count = p.batch * p.directions * p.groups * p.tokens * p.states, units = Units(p).per_group;
    auto sum_slice = [&](int64_t index) {
        int64_t first = index * slice, size = std::min(slice, count - first);
        memcpy(target + first, parts + first, size * sizeof(float));
        for (int64_t part = 1; part < units; part++)
            for (int64_t i = first; i < first + size; i++) target[i] += parts[part * count + i];
    };
    for_each_unit(p.threads, (count + slice - 1) / slice, [&] { return sum_slice; });
}

inline void scan_backward(const Problem &problem, const Derivatives &derivatives) {
    for_each_unit(problem.threads, Units(problem).all, [&] { return BackwardWorker(problem, derivatives); });
    sum_parts(problem, derivatives.B_parts, derivatives.B);
    sum_parts(problem, derivatives.C_parts, derivatives.C);
}

}  // namespace

#endif
