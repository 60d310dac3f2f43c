// The scan, forwards. Loops: span, direction, chunk of time, unit of channels, vector of channels, block of states, step.
// The states of a block stay in registers for a whole chunk, and all that a unit reads in a chunk fits the first-level cache.

#ifndef DISTILL_SCAN_FORWARD_H
#define DISTILL_SCAN_FORWARD_H

#include <deque>
#include <type_traits>

#include "scan_tiles.h"

namespace {

class ForwardWorker {
  public:
    ForwardWorker(const Problem &problem, const Outputs &outputs)
        : p(problem), result(outputs), tiles(problem), y(CHUNK * UNIT), gate(CHUNK * UNIT) {}

    void operator()(int64_t span) {
        count = tiles.enter_span(span, units);
        bool finished = false;
        for (int64_t k = 0; k < p.directions; k++) finished = scan_direction(k);
        if (!finished && (p.z.data || p.scale != 1.0f)) finish();
    }

  private:
    // Sums over directions are kept in `ungated` where it is asked for, else in the output itself.
    float *sums() const { return p.ungated ? p.ungated : result.out; }

    // Returns whether the direction was the last to meet any token, and so turned sums into outputs.
    bool scan_direction(int64_t k) {
        tiles.enter_direction(k);
        bool last = k == p.directions - 1 && tiles.steps == p.tokens;
        for (int64_t i = 0; i < count; i++) enter_direction(units[i]);
        if (k == 0 && tiles.steps < p.tokens) clear();
        for (int64_t chunk = 0; chunk < tiles.chunks; chunk++) {
            tiles.enter_chunk(chunk, 1);
            for (int64_t i = 0; i < count; i++) {
                if (p.starts) save_start(units[i]);
                scan_chunk(units[i], last);
                if (last)
                    write_outputs(units[i], k > 0 ? sums() : nullptr, y);
                else
                    add(units[i]);
            }
        }
        for (int64_t i = 0; i < count; i++)
            for (int64_t n = 0; n < p.states; n++)
                units[i].store_row(units[i].state + n * UNIT, result.last + tiles.state_offset() + n * p.channels);
        return last;
    }

    void enter_direction(Unit &unit) const {
        tiles.prepare(unit);
        for (int64_t n = 0; n < p.states; n++) {
            float *row = unit.state + n * UNIT;
            if (p.initial)
                unit.copy_row(p.initial + tiles.state_offset() + n * p.channels, row);
            else
                memset(row, 0, UNIT * sizeof(float));
        }
    }

    void scan_chunk(const Unit &unit, bool last) {
        tiles.enter_unit<false>(unit);
        if (last && p.z.data) tiles.expect(p.z, unit);
        if (last) tiles.expect(result.out, unit);
        if (!last || p.ungated) tiles.expect(sums(), unit);
        for (int64_t c = 0; c < unit.blocks * Vector::lanes; c += Vector::lanes) {
            for_each_states<Vector::states>(0, p.states, [&](auto size, int64_t n) {
                n > 0 ? advance<size, false>(unit, c, n) : advance<size, true>(unit, c, n);
            });
        }
    }

    // Advances `S` states from `n` of the channels at `c` by one chunk.
    template <int S, bool FIRST>
    void advance(const Unit &unit, int64_t c, int64_t n) {
        Vector h[S];
        for (int i = 0; i < S; i++) h[i] = Vector::load(unit.state + (n + i) * UNIT + c);
        const float *A = unit.A + n * UNIT + c, *delta = tiles.delta + c;
        const float *B = tiles.B + n, *C = tiles.C + n;
        float *out = y + c;
        Vector skip = Vector::load(unit.skip + c);
        for (int64_t j = 0; j < tiles.length; j++) {
            if (FIRST) tiles.ask(j, c);
            Vector d = Vector::load(delta), v = Vector::load(tiles.u[j] + c), x = d * v;
            Vector sum[2] = {FIRST ? skip * v : Vector::load(out), zero()};
#pragma GCC unroll 16
            for (int i = 0; i < S; i++) {
                h[i] = fma(exp2(d * Vector::load(A + i * UNIT)), h[i], x * Vector::broadcast(B[i]));
                sum[i % 2] = fma(h[i], Vector::broadcast(C[i]), sum[i % 2]);
            }
            (sum[0] + sum[1]).store(out);
            delta += UNIT, out += UNIT, B += p.states, C += p.states;
        }
        for (int i = 0; i < S; i++) h[i].store(unit.state + (n + i) * UNIT + c);
    }

    void save_start(const Unit &unit) const {
        for (int64_t n = 0; n < p.states; n++) {
            unit.store_row(unit.state + n * UNIT, p.starts + tiles.checkpoint(tiles.chunk, n));
            prefetch(p.starts + tiles.checkpoint(tiles.next, n) + unit.first, unit.width);
        }
    }

    void clear() const {
        for (int64_t t = 0; t < p.tokens; t++)
            for (int64_t i = 0; i < count; i++)
                memset(sums() + tiles.offset(units[i], t), 0, units[i].width * sizeof(float));
    }

    // The first direction sets a token's sum, the others add to it.
    void add(const Unit &unit) const {
        for (int64_t j = 0; j < tiles.length; j++) {
            float *sum = sums() + tiles.offset(unit, tiles.token[j]);
            for (int64_t c = 0; c < unit.width; c += Vector::lanes) {
                Vector v = Vector::load(y + j * UNIT + c);
                if (tiles.direction > 0) v = v + load_some(sum + c, unit.width - c);
                store_some(v, sum + c, unit.width - c);
            }
        }
    }

    // Scales sums and applies the gate, for the chunk's tokens. A sum has two addends, of which either may be null: a row
    // of `before`, which has all tokens, and one of `now`, which has the chunk's.
    void write_outputs(const Unit &unit, const float *before, const float *now) const {
        Rows z;
        if (p.z.data) z = tiles.rows(p.z, gate, unit);
        for (int64_t j = 0; j < tiles.length; j++) {
            int64_t at = tiles.offset(unit, tiles.token[j]);
            for (int64_t c = 0; c < unit.width; c += Vector::lanes) {
                int64_t live = unit.width - c;
                Vector v = now ? Vector::load(now + j * UNIT + c) : zero();
                if (before) v = v + load_some(before + at + c, live);
                v = v * Vector::broadcast(p.scale);
                if (p.ungated) store_some(v, p.ungated + at + c, live);
                if (p.z.data) v = v * silu(Vector::load(z[j] + c));
                store_some(v, result.out + at + c, live);
            }
        }
    }

    // Turns sums into outputs where the last direction does not pass all tokens.
    void finish() {
        for (int64_t t = 0; t < p.tokens; t += CHUNK) {
            tiles.enter_tokens(t);
            for (int64_t i = 0; i < count; i++) write_outputs(units[i], sums(), nullptr);
        }
    }

    const Problem &p;
    const Outputs &result;
    Tiles tiles;
    std::deque<Unit> units;  // of the span, the first `count`
    int64_t count = 0;
    Buffer y, gate;  // [CHUNK][UNIT]
};

inline void scan_forward(const Problem &problem, const Outputs &outputs) {
    for_each_piece(problem.threads, Spans(problem).all, [&] { return ForwardWorker(problem, outputs); });
}

}  // namespace

#endif
