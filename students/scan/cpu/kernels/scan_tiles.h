// What both passes of the scan share: one unit of channels, and its inputs of one chunk of time, gathered into buffers
// that stay in the first-level cache.

#ifndef DISTILL_SCAN_TILES_H
#define DISTILL_SCAN_TILES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <type_traits>

#include "parallel.h"
#include "scan.h"
#include "vector_math.h"

namespace {

// An aligned buffer, zero at first.
class Buffer {
  public:
    explicit Buffer(int64_t count) {
        size_t bytes = (std::max<int64_t>(count, 1) * sizeof(float) + 63) / 64 * 64;
        data = (float *)aligned_alloc(64, bytes);
        if (!data) {
            fprintf(stderr, "distill: out of memory in a scan kernel\n");
            abort();
        }
        memset(data, 0, bytes);
    }
    Buffer(const Buffer &) = delete;
    ~Buffer() { free(data); }
    operator float *() const { return data; }

  private:
    float *data;
};

// Where the units are: channels of one group, of one image.
struct Units {
    int64_t width, per_group, per_image, all;
    explicit Units(const Problem &p)
        : width(p.unit_width),
          per_group((p.channels / p.groups + width - 1) / width),
          per_image(per_group * p.groups),
          all(per_image * p.batch) {}
};

// One unit's share of one direction: `width` channels from `first`, its parameters, and the inputs of one chunk.
// Rows of the buffers have UNIT floats; the lanes beyond `width` hold zeros.
class Tiles {
  public:
    explicit Tiles(const Problem &problem)
        : p(problem),
          A(problem.states * UNIT),
          state(problem.states * UNIT),
          weight(problem.rank * UNIT),
          bias(UNIT),
          skip(UNIT),
          u(CHUNK * UNIT),
          delta(CHUNK * UNIT),
          slope(CHUNK * UNIT),
          B(CHUNK * problem.states),
          C(CHUNK * problem.states),
          factor(CHUNK * problem.rank) {}

    void enter_unit(int64_t unit) {
        Units units(p);
        batch = unit / units.per_image;
        group = unit % units.per_image / units.per_group;
        part = unit % units.per_group;
        int64_t size = p.channels / p.groups;
        first = group * size + part * units.width;
        width = std::min(units.width, size - part * units.width);
        blocks = (width + Vector::lanes - 1) / Vector::lanes;
    }

    void enter_direction(int64_t k) {
        direction = k;
        steps = p.steps;
        if (p.order)
            while (steps > 0 && p.order[k * p.steps + steps - 1] < 0) steps--;
        chunks = (steps + CHUNK - 1) / CHUNK;
        for (int64_t n = 0; n < p.states; n++) copy_row(p.A + (k * p.states + n) * p.channels, A + n * UNIT);
        for (int64_t r = 0; r < p.rank; r++) copy_row(p.delta_weight + (k * p.rank + r) * p.channels, weight + r * UNIT);
        if (p.delta_bias) copy_row(p.delta_bias + k * p.channels, bias);
        if (p.D) copy_row(p.D + k * p.channels, skip);
    }

    // Gathers the inputs of chunk `index` and forms delta, backwards also its slope. `ahead` tells which chunk comes next,
    // as a difference.
    void enter_chunk(int64_t index, int64_t ahead) {
        length = std::min(CHUNK, steps - index * CHUNK);
        for (int64_t j = 0; j < length; j++) token[j] = token_at(index * CHUNK + j);
        int64_t next = std::max<int64_t>(0, index + ahead);
        for (int64_t j = 0; j < CHUNK; j++) soon[j] = token_at(std::min(next * CHUNK + j, steps - 1));
        read(p.u, u, UNIT, first, width);
        const Weights *weights[2] = {&p.B, &p.C};
        float *targets[2] = {B, C};
        for (int i = 0; i < 2; i++) {
            const Weights &w = *weights[i];
            Tokens rows{w.data + group * w.group, w.batch, w.direction, w.token, w.state};
            read(rows, targets[i], p.states, 0, p.states);
        }
        if (p.rank) {
            read(p.delta, factor, p.rank, 0, p.rank);
            multiply_factors();
        } else {
            read(p.delta, delta, UNIT, first, width);
        }
        for (int64_t j = 0; j < length; j++)
            for (int64_t c = j * UNIT; c < j * UNIT + blocks * Vector::lanes; c += Vector::lanes) {
                Vector x = Vector::load(delta + c) + Vector::load(bias + c - j * UNIT);
                if (p.softplus) {
                    Vector e = exp_negative(x);
                    if (ahead < 0) sigmoid(x, e).store(slope + c);
                    x = softplus(x, e);
                }
                x.store(delta + c);
            }
    }

    // Makes a chunk of the tokens from `t` on, in their own order.
    void enter_tokens(int64_t t) {
        length = std::min(CHUNK, p.tokens - t);
        for (int64_t j = 0; j < CHUNK; j++) {
            token[j] = t + j;
            soon[j] = std::min(t + CHUNK + j, p.tokens - 1);
        }
    }

    // Rows of a (.., D) array at `base`, to and from a buffer.
    void copy_row(const float *source, float *row) const {
        for (int64_t c = 0; c < blocks * Vector::lanes; c += Vector::lanes)
            load_some(source + first + c, width - c).store(row + c);
    }
    void store_row(const float *row, float *target) const {
        for (int64_t c = 0; c < width; c += Vector::lanes)
            store_some(Vector::load(row + c), target + first + c, width - c);
    }

    // Copies `count` channels from `channel` of the chunk's tokens to rows of `pitch` floats.
    void read(const Tokens &source, float *target, int64_t pitch, int64_t channel, int64_t count) const {
        const float *base = source.data + batch * source.batch + direction * source.direction + channel * source.channel;
        if (source.channel == 1) {
            for (int64_t j = 0; j < length; j++) {
                const float *row = base + token[j] * source.token, *later = base + soon[j] * source.token;
                for (int64_t c = 0; c < count; c += 16) __builtin_prefetch(later + c, 0, 2);  // to the second level
                int64_t c = 0;
                for (; c + Vector::lanes <= count; c += Vector::lanes) Vector::load(row + c).store(target + j * pitch + c);
                if (c < count && pitch >= c + Vector::lanes)
                    Vector::load_first(row + c, (int)(count - c)).store(target + j * pitch + c);
                else if (c < count)
                    Vector::load_first(row + c, (int)(count - c)).store_first(target + j * pitch + c, (int)(count - c));
            }
            return;
        }
        int64_t done = 0;
        if (source.token == 1 && !p.order)
            for (; done + Vector::lanes <= count; done += Vector::lanes)
                read_transposed(base + token[0] + done * source.channel, source.channel, target + done, pitch);
        for (int64_t c = done; c < count; c++)
            for (int64_t j = 0; j < length; j++) target[j * pitch + c] = base[token[j] * source.token + c * source.channel];
        int64_t padded = std::min(pitch, (count + Vector::lanes - 1) / Vector::lanes * Vector::lanes);
        for (int64_t j = 0; j < length; j++)
            for (int64_t c = count; c < padded; c++) target[j * pitch + c] = 0.0f;
    }

    float *checkpoint(int64_t chunk) const {
        int64_t all = (p.steps + CHUNK - 1) / CHUNK;
        return p.starts + ((batch * p.directions + direction) * all + chunk) * p.states * p.channels;
    }
    int64_t state_offset() const { return (batch * p.directions + direction) * p.states * p.channels; }

    const Problem &p;
    int64_t batch = 0, group = 0, part = 0, first = 0, width = 0, blocks = 0;
    int64_t direction = 0, steps = 0, chunks = 0, length = 0;
    int64_t token[CHUNK], soon[CHUNK];  // of this chunk and of the next
    Buffer A, state, weight, bias, skip;     // [N][UNIT], [N][UNIT], [R][UNIT], [UNIT], [UNIT]
    Buffer u, delta, slope;                  // [CHUNK][UNIT]; the slope is that of softplus
    Buffer B, C, factor;                     // [CHUNK][N] twice, [CHUNK][R]

  private:
    // As many channels as a vector has lanes, each of which lies along `source`, `stride` apart.
    void read_transposed(const float *source, int64_t stride, float *target, int64_t pitch) const {
        for (int64_t j = 0; j < length; j += Vector::lanes) {
            int64_t count = std::min<int64_t>(Vector::lanes, length - j);
            Vector rows[Vector::lanes];
            for (int i = 0; i < Vector::lanes; i++) {
                rows[i] = load_some(source + i * stride + j, count);
                __builtin_prefetch(source + i * stride + j + (soon[0] - token[0]));
            }
            transpose(rows);
            for (int i = 0; i < count; i++) rows[i].store(target + (j + i) * pitch);
        }
    }

    int64_t token_at(int64_t step) const { return p.order ? p.order[direction * p.steps + step] : step; }

    void multiply_factors() {
        for (int64_t c = 0; c < blocks * Vector::lanes; c += Vector::lanes) {
            int64_t j = 0;
            for (; j + 4 <= length; j += 4) multiply_factors<4>(j, c);
            for (; j < length; j++) multiply_factors<1>(j, c);
        }
    }

    template <int ROWS>
    void multiply_factors(int64_t j, int64_t c) {
        Vector sum[ROWS];
        for (int i = 0; i < ROWS; i++) sum[i] = zero();
        for (int64_t r = 0; r < p.rank; r++) {
            Vector w = Vector::load(weight + r * UNIT + c);
            for (int i = 0; i < ROWS; i++) sum[i] = fma(Vector::broadcast(factor[(j + i) * p.rank + r]), w, sum[i]);
        }
        for (int i = 0; i < ROWS; i++) sum[i].store(delta + (j + i) * UNIT + c);
    }
};

// Calls kernel<S>(n) over all N states, S at a time and then by halves.
template <int S, class Kernel>
inline void for_each_states(int64_t n, int64_t states, Kernel &&kernel) {
    for (; n + S <= states; n += S) kernel(std::integral_constant<int, S>(), n);
    if constexpr (S > 1)
        if (n < states) for_each_states<S / 2>(n, states, kernel);
}

}  // namespace

#endif
