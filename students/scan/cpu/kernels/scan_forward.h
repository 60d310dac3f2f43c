// The scan, forwards. Loops: unit of channels, direction, chunk of time, vector of channels, block of states, step. The
// states of a block stay in registers for a whole chunk, and all that a chunk reads fits the first-level cache.

#ifndef DISTILL_SCAN_FORWARD_H
#define DISTILL_SCAN_FORWARD_H

#include <type_traits>

#include "scan_tiles.h"

namespace {

class ForwardWorker {
  public:
    ForwardWorker(const Problem &problem, const Outputs &outputs)
        : p(problem), result(outputs), tiles(problem), y(CHUNK * UNIT) {}

    void operator()(int64_t unit) {
        tiles.enter_unit(unit);
        for (int64_t k = 0; k < p.directions; k++) scan_direction(k);
        if (finishing() && !finished_by_chunk())
            for (int64_t t = 0; t < p.tokens; t += CHUNK) {
                tiles.enter_tokens(t);
                finish_chunk();
            }
    }

  private:
    // Sums over directions are kept in `ungated` where it is asked for, else in the output itself.
    float *sums() const { return p.ungated ? p.ungated : result.out; }
    bool finishing() const { return p.z.data || p.scale != 1.0f; }
    bool finished_by_chunk() const { return p.directions == 1 && tiles.steps == p.tokens; }

    void scan_direction(int64_t k) {
        tiles.enter_direction(k);
        for (int64_t n = 0; n < p.states; n++) {
            float *row = tiles.state + n * UNIT;
            if (p.initial)
                tiles.copy_row(p.initial + tiles.state_offset() + n * p.channels, row);
            else
                memset(row, 0, UNIT * sizeof(float));
        }
        if (k == 0 && tiles.steps < p.tokens) clear();
        for (int64_t chunk = 0; chunk < tiles.chunks; chunk++) {
            if (p.starts) save(tiles.checkpoint(chunk));
            tiles.enter_chunk(chunk, 1);
            for (int64_t c = 0; c < tiles.blocks * Vector::lanes; c += Vector::lanes) {
                for (int64_t j = 0; j < tiles.length; j++)
                    (Vector::load(tiles.skip + c) * Vector::load(tiles.u + j * UNIT + c)).store(y + j * UNIT + c);
                for_each_states<Vector::states>(0, p.states, [&](auto count, int64_t n) { advance<count>(c, n); });
            }
            for (int64_t j = 0; j < tiles.length; j++) add(k, tiles.token[j], tiles.soon[j], y + j * UNIT);
            if (finishing() && finished_by_chunk()) finish_chunk();
        }
        save(result.last + tiles.state_offset());
    }

    // Advances `S` states from `n` of the channels at `c` by one chunk.
    template <int S>
    void advance(int64_t c, int64_t n) {
        Vector h[S];
        for (int i = 0; i < S; i++) h[i] = Vector::load(tiles.state + (n + i) * UNIT + c);
        const float *A = tiles.A + n * UNIT + c, *delta = tiles.delta + c, *u = tiles.u + c;
        const float *B = tiles.B + n, *C = tiles.C + n;
        float *out = y + c;
        for (int64_t j = 0; j < tiles.length; j++) {
            Vector d = Vector::load(delta), x = d * Vector::load(u);
            Vector sum[2] = {Vector::load(out), zero()};
#pragma GCC unroll 16
            for (int i = 0; i < S; i++) {
                h[i] = fma(exp2(d * Vector::load(A + i * UNIT)), h[i], x * Vector::broadcast(B[i]));
                sum[i % 2] = fma(h[i], Vector::broadcast(C[i]), sum[i % 2]);
            }
            (sum[0] + sum[1]).store(out);
            delta += UNIT, u += UNIT, out += UNIT, B += p.states, C += p.states;
        }
        for (int i = 0; i < S; i++) h[i].store(tiles.state + (n + i) * UNIT + c);
    }

    float *row(float *base, int64_t token) const { return base + (tiles.batch * p.tokens + token) * p.channels + tiles.first; }

    void save(float *states) const {
        for (int64_t n = 0; n < p.states; n++) tiles.store_row(tiles.state + n * UNIT, states + n * p.channels);
    }

    void clear() const {
        for (int64_t t = 0; t < p.tokens; t++) memset(row(sums(), t), 0, tiles.width * sizeof(float));
    }

    // The first direction sets a token's sum, the others add to it.
    void add(int64_t k, int64_t token, int64_t soon, const float *value) const {
        float *target = row(sums(), token), *later = row(sums(), soon);
        for (int64_t c = 0; c < tiles.width; c += 16) __builtin_prefetch(later + c, 1, 2);
        for (int64_t c = 0; c < tiles.width; c += Vector::lanes) {
            Vector v = Vector::load(value + c);
            if (k > 0) v = v + load_some(target + c, tiles.width - c);
            store_some(v, target + c, tiles.width - c);
        }
    }

    // Scales the sums of the chunk's tokens and applies the gate, which is read into the buffer of `y`.
    void finish_chunk() const {
        if (p.z.data) tiles.read(p.z, y, UNIT, tiles.first, tiles.width);
        for (int64_t j = 0; j < tiles.length; j++)
            for (int64_t c = 0; c < tiles.width; c += Vector::lanes) {
                int64_t count = tiles.width - c;
                Vector v = load_some(row(sums(), tiles.token[j]) + c, count) * Vector::broadcast(p.scale);
                if (p.ungated) store_some(v, row(p.ungated, tiles.token[j]) + c, count);
                if (p.z.data) v = v * silu(Vector::load(y + j * UNIT + c));
                store_some(v, row(result.out, tiles.token[j]) + c, count);
            }
    }

    const Problem &p;
    const Outputs &result;
    Tiles tiles;
    Buffer y;
};

inline void scan_forward(const Problem &problem, const Outputs &outputs) {
    for_each_unit(problem.threads, Units(problem).all, [&] { return ForwardWorker(problem, outputs); });
}

}  // namespace

#endif
