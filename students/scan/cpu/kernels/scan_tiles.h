// What both passes of the scan share: how the channels are cut into units, and the inputs of a unit in one chunk of time,
// gathered into buffers that stay in the first-level cache.

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

// Asks for a row of `count` floats that the next chunk reads or writes to come to the second-level cache.
inline void prefetch(const float *row, int64_t count) {
    for (int64_t c = 0; c < count; c += 16) __builtin_prefetch(row + c, 0, 2);
}

// A unit: `width` channels from `first`, their parameters in one direction, and their states. Rows have UNIT floats; the
// lanes beyond `width` hold zeros.
struct Unit {
    explicit Unit(const Problem &p)
        : A(p.states * UNIT), state(p.states * UNIT), weight(p.rank * UNIT), bias(UNIT), skip(UNIT) {}

    // Rows of a (.., D) array, to and from a buffer.
    void copy_row(const float *source, float *row) const {
        for (int64_t c = 0; c < blocks * Vector::lanes; c += Vector::lanes)
            load_some(source + first + c, width - c).store(row + c);
    }
    void store_row(const float *row, float *target) const {
        for (int64_t c = 0; c < width; c += Vector::lanes)
            store_some(Vector::load(row + c), target + first + c, width - c);
    }

    int64_t part = 0, first = 0, width = 0, blocks = 0;  // part: which unit of its group
    Buffer A, state, weight, bias, skip;                 // [N][UNIT], [N][UNIT], [R][UNIT], [UNIT], [UNIT]
};

// The work is cut into spans: neighbouring units of one group, of one image. A thread takes all units of a span through
// one chunk of time before the next chunk, so that it reads and writes long stretches of memory in their order.
struct Spans {
    int64_t units, length, per_group, all;
    explicit Spans(const Problem &p)
        : units((p.channels / p.groups + p.unit_width - 1) / p.unit_width), length(units) {
        int64_t bytes = (4 * p.states + p.rank) * UNIT * (int64_t)sizeof(float);  // of a unit, going backwards
        length = std::min(length, std::max<int64_t>(1, (1 << 18) / bytes));       // a part of the second-level cache
        for (count(p); length > 1 && all % p.threads && all < 8 * p.threads; count(p)) length = (length + 1) / 2;
    }

  private:
    void count(const Problem &p) {
        per_group = (units + length - 1) / length;
        all = per_group * p.groups * p.batch;
    }
};

// Where the channels of a unit lie for each token of a chunk: in the tensor itself, or copied to a buffer.
struct Rows {
    const float *at[CHUNK];
    const float *operator[](int64_t j) const { return at[j]; }
};

// The inputs of one chunk of time: of a group, and of one of its units at a time.
class Tiles {
  public:
    explicit Tiles(const Problem &problem)
        : p(problem),
          copied_u(CHUNK * UNIT),
          delta(CHUNK * UNIT),
          slope(CHUNK * UNIT),
          B(CHUNK * problem.states),
          C(CHUNK * problem.states),
          factor(CHUNK * problem.rank) {}

    // Makes the first of `units` those of span `index`; returns how many.
    template <class Units>
    int64_t enter_span(int64_t index, Units &units) {
        Spans spans(p);
        batch = index / (spans.per_group * p.groups);
        group = index / spans.per_group % p.groups;
        int64_t start = index % spans.per_group * spans.length, size = p.channels / p.groups;
        int64_t count = std::min(spans.length, spans.units - start);
        while ((int64_t)units.size() < count) units.emplace_back(p);
        for (int64_t i = 0; i < count; i++) {
            Unit &unit = units[i];
            unit.part = start + i;
            unit.first = group * size + unit.part * p.unit_width;
            unit.width = std::min(p.unit_width, size - unit.part * p.unit_width);
            unit.blocks = (unit.width + Vector::lanes - 1) / Vector::lanes;
        }
        return count;
    }

    void enter_direction(int64_t k) {
        direction = k;
        steps = p.steps;
        if (p.order)
            while (steps > 0 && p.order[k * p.steps + steps - 1] < 0) steps--;
        chunks = (steps + CHUNK - 1) / CHUNK;
    }

    // Reads the unit's parameters in this direction.
    void prepare(Unit &unit) const {
        int64_t k = direction;
        for (int64_t n = 0; n < p.states; n++) unit.copy_row(p.A + (k * p.states + n) * p.channels, unit.A + n * UNIT);
        for (int64_t r = 0; r < p.rank; r++)
            unit.copy_row(p.delta_weight + (k * p.rank + r) * p.channels, unit.weight + r * UNIT);
        if (p.delta_bias) unit.copy_row(p.delta_bias + k * p.channels, unit.bias);
        if (p.D) unit.copy_row(p.D + k * p.channels, unit.skip);
    }

    // Gathers what all units share of chunk `index`. `ahead` tells which chunk comes next, as a difference.
    void enter_chunk(int64_t index, int64_t ahead) {
        length = std::min(CHUNK, steps - index * CHUNK);
        for (int64_t j = 0; j < length; j++) token[j] = token_at(index * CHUNK + j);
        chunk = index;
        next = std::min(chunks - 1, std::max<int64_t>(0, index + ahead));
        for (int64_t j = 0; j < CHUNK; j++) soon[j] = token_at(std::min(next * CHUNK + j, steps - 1));
        const Weights *weights[2] = {&p.B, &p.C};
        float *targets[2] = {B, C};
        for (int i = 0; i < 2; i++) {
            const Weights &w = *weights[i];
            Tokens rows{w.data + group * w.group, w.batch, w.direction, w.token, w.state};
            read(rows, targets[i], p.states, 0, p.states);
        }
        if (p.rank) read(p.delta, factor, p.rank, 0, p.rank);
    }

    // Finds the unit's inputs of the chunk and forms delta; backwards, also its slope.
    template <bool BACKWARD>
    void enter_unit(const Unit &unit) {
        expected = 0;
        u = rows(p.u, copied_u, unit);
        expect(p.u, unit);
        Rows raw;
        if (p.rank) {
            multiply_factors(unit);
            for (int64_t j = 0; j < length; j++) raw.at[j] = delta + j * UNIT;
        } else {
            raw = rows(p.delta, delta, unit);
            expect(p.delta, unit);
        }
        for (int64_t j = 0; j < length; j++)
            for (int64_t c = 0; c < unit.blocks * Vector::lanes; c += Vector::lanes) {
                Vector x = Vector::load(raw[j] + c) + Vector::load(unit.bias + c);
                if (p.softplus) {
                    Vector e = exp_negative(x);
                    if (BACKWARD) sigmoid(x, e).store(slope + j * UNIT + c);
                    x = softplus(x, e);
                }
                x.store(delta + j * UNIT + c);
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

    // The unit's channels of the chunk's tokens, copied to `buffer` where they cannot be read in place.
    Rows rows(const Tokens &source, float *buffer, const Unit &unit) const {
        Rows found;
        bool direct = in_place(source, unit);
        if (!direct) read(source, buffer, UNIT, unit.first, unit.width);
        for (int64_t j = 0; j < length; j++)
            found.at[j] = direct ? base(source, unit.first) + token[j] * source.token : buffer + j * UNIT;
        return found;
    }

    // Announces the unit's channels of what the next chunk reads in place, or of a (B, P, D) array that it reads or writes.
    void expect(const Tokens &source, const Unit &unit) {
        if (in_place(source, unit)) ahead[expected++] = {base(source, unit.first), source.token};
    }
    void expect(const float *tensor, const Unit &unit) { ahead[expected++] = {tensor + offset(unit, 0), p.channels}; }

    // Asks for one line of each announced row, between the steps of this chunk: all at once they would hold up the core.
    void ask(int64_t j, int64_t c) const {
        for (int i = 0; i < expected; i++) __builtin_prefetch(ahead[i].data + soon[j] * ahead[i].pitch + c);
    }

    // Copies `count` channels from `channel` of the chunk's tokens to rows of `pitch` floats.
    void read(const Tokens &source, float *target, int64_t pitch, int64_t channel, int64_t count) const {
        const float *first = base(source, channel);
        if (source.channel == 1) {
            for (int64_t j = 0; j < length; j++) {
                const float *row = first + token[j] * source.token;
                prefetch(first + soon[j] * source.token, count);
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
                read_transposed(first + token[0] + done * source.channel, source.channel, target + done, pitch);
        for (int64_t c = done; c < count; c++)
            for (int64_t j = 0; j < length; j++) target[j * pitch + c] = first[token[j] * source.token + c * source.channel];
        int64_t padded = std::min(pitch, (count + Vector::lanes - 1) / Vector::lanes * Vector::lanes);
        for (int64_t j = 0; j < length; j++)
            for (int64_t c = count; c < padded; c++) target[j * pitch + c] = 0.0f;
    }

    // The unit's channels in a row of a (B, P, D) array, and in one of a (B, K, chunks, N, D) array.
    int64_t offset(const Unit &unit, int64_t at) const { return (batch * p.tokens + at) * p.channels + unit.first; }
    int64_t checkpoint(int64_t at, int64_t n) const {
        int64_t all = (p.steps + CHUNK - 1) / CHUNK;
        return (((batch * p.directions + direction) * all + at) * p.states + n) * p.channels;
    }
    int64_t state_offset() const { return (batch * p.directions + direction) * p.states * p.channels; }

    const Problem &p;
    int64_t batch = 0, group = 0;
    int64_t direction = 0, steps = 0, chunks = 0;
    int64_t chunk = 0, next = 0, length = 0;  // the chunk entered, the one after it, and steps
    int64_t token[CHUNK], soon[CHUNK];  // of this chunk and of the next
    Rows u;
    Buffer copied_u, delta, slope;  // [CHUNK][UNIT]; the slope is that of softplus
    Buffer B, C, factor;            // [CHUNK][N] twice, [CHUNK][R]

  private:
    // Whether the unit's channels are whole vectors side by side, to be read where they are.
    bool in_place(const Tokens &source, const Unit &unit) const {
        return source.channel == 1 && unit.width % Vector::lanes == 0;
    }

    const float *base(const Tokens &source, int64_t channel) const {
        return source.data + batch * source.batch + direction * source.direction + channel * source.channel;
    }

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

    struct {
        const float *data;
        int64_t pitch;
    } ahead[8];  // backwards: u, delta, z, y, and the gradients of y and of the first three
    int expected = 0;

    int64_t token_at(int64_t step) const { return p.order ? p.order[direction * p.steps + step] : step; }

    void multiply_factors(const Unit &unit) {
        for (int64_t c = 0; c < unit.blocks * Vector::lanes; c += Vector::lanes) {
            int64_t j = 0;
            for (; j + 4 <= length; j += 4) multiply_factors<4>(unit.weight + c, j, c);
            for (; j < length; j++) multiply_factors<1>(unit.weight + c, j, c);
        }
    }

    template <int ROWS>
    void multiply_factors(const float *weight, int64_t j, int64_t c) {
        Vector sum[ROWS];
        for (int i = 0; i < ROWS; i++) sum[i] = zero();
        for (int64_t r = 0; r < p.rank; r++) {
            Vector w = Vector::load(weight + r * UNIT);
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
