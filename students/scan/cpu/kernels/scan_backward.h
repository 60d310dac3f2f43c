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

#include <deque>
#include <type_traits>

#include "scan_tiles.h"

namespace {

// A unit with what is summed up over a direction.
struct DifferentiatedUnit : Unit {
    explicit DifferentiatedUnit(const Problem &p)
        : Unit(p), g(p.states * UNIT), dA(p.states * UNIT), dD(UNIT), dbias(UNIT) {}

    Buffer g, dA, dD, dbias;  // [N][UNIT] twice, [UNIT] twice
};

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
          lanes_C((CHUNK * S + Vector::lanes) * Vector::lanes) {}

    void operator()(int64_t span) {
        count = tiles.enter_span(span, units);
        for (int64_t k = 0; k < p.directions; k++) scan_direction(k);
    }

  private:
    static constexpr int S = Vector::states_backward;

    void scan_direction(int64_t k) {
        tiles.enter_direction(k);
        if (k == 0 && p.z.data && tiles.steps < p.tokens) differentiate_gate();
        for (int64_t i = 0; i < count; i++) enter_direction(units[i]);
        for (int64_t chunk = tiles.chunks - 1; chunk >= 0; chunk--) {
            tiles.enter_chunk(chunk, -1);
            for (int64_t i = 0; i < count; i++) scan_chunk(units[i]);
        }
        for (int64_t i = 0; i < count; i++) leave_direction(units[i]);
    }

    void enter_direction(DifferentiatedUnit &unit) const {
        tiles.prepare(unit);
        for (int64_t n = 0; n < p.states; n++) {
            if (result.grad_last)
                unit.copy_row(result.grad_last + tiles.state_offset() + n * p.channels, unit.g + n * UNIT);
            else
                memset(unit.g + n * UNIT, 0, UNIT * sizeof(float));
        }
        memset(unit.dA, 0, p.states * UNIT * sizeof(float));
        memset(unit.dD, 0, UNIT * sizeof(float));
        memset(unit.dbias, 0, UNIT * sizeof(float));
    }

    void leave_direction(const DifferentiatedUnit &unit) const {
        for (int64_t n = 0; n < p.states; n++) {
            unit.store_row(unit.g + n * UNIT, result.initial + tiles.state_offset() + n * p.channels);
            unit.store_row(unit.dA + n * UNIT, result.A + tiles.state_offset() + n * p.channels);
        }
        unit.store_row(unit.dD, result.D + (tiles.batch * p.directions + tiles.direction) * p.channels);
        unit.store_row(unit.dbias, result.delta_bias + (tiles.batch * p.directions + tiles.direction) * p.channels);
    }

    void scan_chunk(DifferentiatedUnit &unit) {
        for (int64_t n = 0; n < p.states; n++) {
            unit.copy_row(p.starts + tiles.checkpoint(tiles.chunk, n), unit.state + n * UNIT);
            prefetch(p.starts + tiles.checkpoint(tiles.next, n) + unit.first, unit.width);
        }
        tiles.enter_unit<true>(unit);
        read_gradient(unit);
        tiles.expect(du(), unit), tiles.expect(ddelta(), unit);
        memset(through_B, 0, CHUNK * UNIT * sizeof(float));
        memset(through_A, 0, CHUNK * UNIT * sizeof(float));
        for_each_states<S>(0, p.states, [&](auto size, int64_t n) {
            for (int64_t c = 0; c < unit.blocks * Vector::lanes; c += Vector::lanes) {
                recompute<size>(unit, c, n);
                differentiate<size>(unit, c, n);
            }
            sum_lanes<size>(unit, n);
        });
        write_gradients(unit);
    }

    // The gradient of what this direction adds to the sum over directions; with the first one, also that of the gate:
    // dz = dout y silu'(z), with y before the gate.
    void read_gradient(const Unit &unit) {
        bool gated = p.z.data && tiles.direction == 0;
        Rows out = tiles.rows(result.grad_out, dy, unit), gates;
        tiles.expect(result.grad_out, unit);
        if (p.z.data) gates = tiles.rows(p.z, gate, unit), tiles.expect(p.z, unit);
        if (gated) tiles.expect(p.ungated, unit), tiles.expect(result.z, unit);
        for (int64_t j = 0; j < tiles.length; j++) {
            int64_t at = tiles.offset(unit, tiles.token[j]);
            for (int64_t c = 0; c < unit.width; c += Vector::lanes) {
                Vector grad = Vector::load(out[j] + c);
                Vector through = grad * Vector::broadcast(p.scale);
                if (p.z.data) {
                    Vector z = Vector::load(gates[j] + c), s = sigmoid(z);
                    if (gated) store_gradient_of_gate(z, s, grad, at + c, unit.width - c);
                    through = through * z * s;
                }
                through.store(dy + j * UNIT + c);
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
            for (int64_t i = 0; i < count; i++) differentiate_gate(units[i]);
        }
    }

    void differentiate_gate(const Unit &unit) const {
        Rows gates = tiles.rows(p.z, gate, unit), out = tiles.rows(result.grad_out, dy, unit);
        for (int64_t j = 0; j < tiles.length; j++) {
            int64_t row = tiles.offset(unit, tiles.token[j]);
            for (int64_t c = 0; c < unit.width; c += Vector::lanes) {
                Vector z = Vector::load(gates[j] + c), grad = Vector::load(out[j] + c);
                store_gradient_of_gate(z, sigmoid(z), grad, row + c, unit.width - c);
            }
        }
    }

    // The decays and states of one chunk, `COUNT` states from `n` of the channels at `c`.
    template <int COUNT>
    void recompute(const Unit &unit, int64_t c, int64_t n) const {
        Vector state[COUNT];
        for (int i = 0; i < COUNT; i++) {
            state[i] = Vector::load(unit.state + (n + i) * UNIT + c);
            state[i].store(h + i * Vector::lanes);
        }
        const float *A = unit.A + n * UNIT + c;
        for (int64_t j = 0; j < tiles.length; j++) {
            Vector d = Vector::load(tiles.delta + j * UNIT + c), x = d * Vector::load(tiles.u[j] + c);
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
    void differentiate(DifferentiatedUnit &unit, int64_t c, int64_t n) const {
        Vector grad[COUNT], grad_A[COUNT];
        for (int i = 0; i < COUNT; i++) {
            grad[i] = Vector::load(unit.g + (n + i) * UNIT + c);
            grad_A[i] = zero();  // of this chunk: one long sum would round each step to the size of all before it
        }
        const float *A = unit.A + n * UNIT + c;
        int live = (int)std::min<int64_t>(Vector::lanes, unit.width - c);  // idle lanes may hold NaN, 0 * inf
        for (int64_t j = tiles.length - 1; j >= 0; j--) {
            if (n == 0) tiles.ask(j, c);
            Vector d = Vector::load(tiles.delta + j * UNIT + c), x = d * Vector::load(tiles.u[j] + c);
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
            grad[i].store(unit.g + (n + i) * UNIT + c);
            float *sum = unit.dA + (n + i) * UNIT + c;
            (Vector::load(sum) + grad_A[i]).store(sum);
        }
    }

    // dB and dC of this unit.
    template <int COUNT>
    void sum_lanes(const Unit &unit, int64_t n) const {
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
                float *target = parts[which] + ((unit.part * images + image) * p.tokens + tiles.token[j]) * p.states + n;
                for (int i = 0; i < COUNT; i++) target[i] = row[j * COUNT + i];
            }
        }
    }

    // Gradients of this direction, to be indexed as (B, P, D).
    float *du() const { return p.shared ? result.u : of_direction(result.u); }
    float *ddelta() const { return of_direction(result.delta); }
    float *of_direction(float *gradient) const {
        return gradient + (tiles.batch * (p.directions - 1) + tiles.direction) * p.tokens * p.channels;
    }

    void write_gradients(DifferentiatedUnit &unit) const {
        for (int64_t c = 0; c < unit.width; c += Vector::lanes) {
            int64_t count = unit.width - c;
            Vector skip = Vector::load(unit.skip + c), dD = zero(), dbias = zero();
            for (int64_t j = 0; j < tiles.length; j++) {
                int64_t at = j * UNIT + c, row = tiles.offset(unit, tiles.token[j]) + c;
                Vector u = Vector::load(tiles.u[j] + c), out = Vector::load(dy + at), sum_B = Vector::load(through_B + at);
                Vector to_u = fma(sum_B, Vector::load(tiles.delta + at), out * skip);
                if (p.shared && tiles.direction > 0) to_u = to_u + load_some(du() + row, count);
                store_some(to_u, du() + row, count);
                // A is kept times log2(e).
                Vector to_delta = fma(Vector::broadcast(0.693147181f), Vector::load(through_A + at), sum_B * u);
                if (p.softplus) to_delta = to_delta * Vector::load(tiles.slope + at);
                store_some(to_delta, ddelta() + row, count);
                dD = fma(out, u, dD);
                dbias = dbias + to_delta;
            }
            (Vector::load(unit.dD + c) + dD).store(unit.dD + c);
            (Vector::load(unit.dbias + c) + dbias).store(unit.dbias + c);
        }
    }

    const Problem &p;
    const Derivatives &result;
    Tiles tiles;
    Buffer dy, gate, through_B, through_A;  // [CHUNK][UNIT]
    Buffer h, decay, lanes_B, lanes_C;      // [CHUNK (+ 1)][S][lanes]
    std::deque<DifferentiatedUnit> units;   // of the span, the first `count`
    int64_t count = 0;
};

// Adds up the units of every group, in order.
inline void sum_parts(const Problem &p, const float *parts, float *target) {
    constexpr int64_t slice = 1 << 14;
    int64_t count = p.batch * p.directions * p.groups * p.tokens * p.states, units = Spans(p).units;
    auto sum_slice = [&](int64_t index) {
        int64_t first = index * slice, size = std::min(slice, count - first);
        memcpy(target + first, parts + first, size * sizeof(float));
        for (int64_t part = 1; part < units; part++)
            for (int64_t i = first; i < first + size; i++) target[i] += parts[part * count + i];
    };
    for_each_piece(p.threads, (count + slice - 1) / slice, [&] { return sum_slice; });
}

inline void scan_backward(const Problem &problem, const Derivatives &derivatives) {
    for_each_piece(problem.threads, Spans(problem).all, [&] { return BackwardWorker(problem, derivatives); });
    sum_parts(problem, derivatives.B_parts, derivatives.B);
    sum_parts(problem, derivatives.C_parts, derivatives.C);
}

}  // namespace

#endif
