/* Kernels of the inner loop on the CPU, float32, for `native.py`; weights may be bfloat16. All arrays are contiguous and row-major.
 *
 * Every output row, or adapter, is computed by one thread in an order that depends on nothing but its own size, so results
 * do not change with the number of threads or of neighbours.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#define BF16_UNITS 1
#elif defined(EMULATE_BF16_UNITS) /* for a test on processors without them */
#define BF16_UNITS 1
#else
#define BF16_UNITS 0
#endif

/* The C library's vector version (glibc's libmvec). Where there is none, linking fails and PyTorch's kernels are used. */
__attribute__((__simd__("notinbranch"))) float expf(float);

#ifdef __AVX512F__
#define LANES 16
#define TILE_ROWS 12 /* a 12 x 32 tile of a product: 24 of 32 registers hold sums */
#else
#define LANES 8
#define TILE_ROWS 6
#endif
#define TILE_VECS 2
#define PANEL (TILE_VECS * LANES)
#define DEPTH 32 /* terms that a product sums before it adds them to the rest: rounding grows with it */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE vec load(const float *p) { return *(const vec *)p; }
INLINE void store(float *p, vec v) { *(vec *)p = v; }
INLINE float sum(vec v) {
    float s[LANES];
    store(s, v);
    for (int w = LANES / 2; w; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
}

/* Sums of LANES vectors at once, the sum of v[i] in lane PLACE(i): each step adds the halves of pairs of vectors. */
typedef int mask __attribute__((vector_size(LANES * 4)));
#define AT(l, w, odd) \
    (((l) / (w)) % (LANES / (2 * (w))) * 2 * (w) + (l) % (w) + ((l) / (w) >= LANES / (2 * (w)) ? LANES : 0) + (odd) * (w))
#if LANES == 16
#define PLACE(i) (((i) & 1) << 3 | ((i) & 2) << 1 | ((i) & 4) >> 1 | ((i) & 8) >> 3)
#else
#define PLACE(i) (((i) & 1) << 2 | ((i) & 2) | ((i) & 4) >> 2)
#endif
#define EIGHT(o, w, odd) \
    AT(o, w, odd), AT(o + 1, w, odd), AT(o + 2, w, odd), AT(o + 3, w, odd), AT(o + 4, w, odd), AT(o + 5, w, odd), \
        AT(o + 6, w, odd), AT(o + 7, w, odd)
#if LANES == 16
#define HALVES(w, odd) (mask){EIGHT(0, w, odd), EIGHT(8, w, odd)}
#else
#define HALVES(w, odd) (mask){EIGHT(0, w, odd)}
#endif
#define FOLD(w) \
    for (int i = 0; i < w; i++) \
        v[i] = __builtin_shuffle(v[i], v[i + w], HALVES(w, 0)) + __builtin_shuffle(v[i], v[i + w], HALVES(w, 1));
INLINE vec sums(vec *v) {
#if LANES == 16
    FOLD(8)
#endif
    FOLD(4) FOLD(2) FOLD(1)
    return v[0];
}

/* normed = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps) */
void rms_norm(long rows, long d, const float *x, const float *weight, float eps, float *normed, float *rstd) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < rows; i++) {
        const float *xi = x + i * d;
        float *yi = normed + i * d, square = 0;
#pragma omp simd reduction(+ : square)
        for (long j = 0; j < d; j++) square += xi[j] * xi[j];
        const float r = 1.0f / sqrtf(square / d + eps);
        rstd[i] = r;
#pragma omp simd
        for (long j = 0; j < d; j++) yi[j] = xi[j] * r * weight[j];
    }
}

/* dx += rstd * (g - x * rstd^2 * mean(g * x)), g = dy * weight */
void rms_norm_backward(long rows, long d, const float *dy, const float *x, const float *weight, const float *rstd, float *dx) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < rows; i++) {
        const float *gi = dy + i * d, *xi = x + i * d;
        float *di = dx + i * d, along = 0;
#pragma omp simd reduction(+ : along)
        for (long j = 0; j < d; j++) along += gi[j] * weight[j] * xi[j];
        const float r = rstd[i], c = along * r * r / d;
#pragma omp simd
        for (long j = 0; j < d; j++) di[j] += r * (gi[j] * weight[j] - xi[j] * c);
    }
}

/* out = silu(gate) * up */
void swiglu(long rows, long d, const float *gate, const float *up, float *out) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < rows; i++) {
        const float *g = gate + i * d, *u = up + i * d;
        float *o = out + i * d;
#pragma omp simd
        for (long j = 0; j < d; j++) o[j] = g[j] / (1.0f + expf(-g[j])) * u[j];
    }
}

/* Given d = d_out: gate becomes d_gate, up becomes d_up. */
void swiglu_backward(long rows, long d, const float *d_out, float *gate, float *up) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < rows; i++) {
        const float *o = d_out + i * d;
        float *g = gate + i * d, *u = up + i * d;
#pragma omp simd
        for (long j = 0; j < d; j++) {
            const float x = g[j], sigmoid = 1.0f / (1.0f + expf(-x)), silu = x * sigmoid;
            g[j] = o[j] * u[j] * (sigmoid + silu * (1.0f - sigmoid));
            u[j] = o[j] * silu;
        }
    }
}

/* Cross-entropy of each row of logits (rows, vocab) with its label: nll in nats; logits become weight * d nll / d logits. */
void cross_entropy(long rows, long vocab, float *logits, const long *labels, const float *weights, float *nll) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < rows; i++) {
        float *l = logits + i * vocab, top = l[0], total = 0;
#pragma omp simd reduction(max : top)
        for (long j = 0; j < vocab; j++) top = l[j] > top ? l[j] : top;
        const float at_label = l[labels[i]];
#pragma omp simd reduction(+ : total)
        for (long j = 0; j < vocab; j++) {
            const float e = expf(l[j] - top);
            l[j] = e;
            total += e;
        }
        nll[i] = logf(total) - (at_label - top);
        const float scale = weights[i] / total;
#pragma omp simd
        for (long j = 0; j < vocab; j++) l[j] *= scale;
        l[labels[i]] -= weights[i];
    }
}

/* The end of a tile of a product: its sums, plus bias[j] and plus[i][j] where they are given, to c. */
INLINE void finish_tile(int m, int nv, const vec (*acc)[4], const float *bias, const float *plus, long plus_row, float *c, long c_row) {
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) {
            vec r = acc[i][v];
            if (bias) r += load(bias + v * LANES);
            if (plus) r += load(plus + i * plus_row + v * LANES);
            store(c + i * c_row + v * LANES, r);
        }
}

/* Products. One tile: c[i][j] = sum over k of a[i * a_row + k * a_k] * b[k * b_row + j], plus bias[j], plus plus[i][j], for i < m
 * and j < nv * LANES. Each element is summed in the order of k, so it does not depend on the tile that it falls into. */
INLINE void tile(int m, int nv, long k, const float *a, long a_row, long a_k, const float *b, long b_row, const float *bias,
                 const float *plus, long plus_row, float *c, long c_row) {
    vec acc[12][4];
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) acc[i][v] = (vec){0};
    for (long t = 0; t < k; t++) {
        vec bt[4];
        for (int v = 0; v < nv; v++) bt[v] = load(b + t * b_row + v * LANES);
        for (int i = 0; i < m; i++) {
            const float at = a[i * a_row + t * a_k];
            for (int v = 0; v < nv; v++) acc[i][v] += at * bt[v];
        }
    }
    finish_tile(m, nv, acc, bias, plus, plus_row, c, c_row);
}

#if TILE_ROWS > 6 /* every number of rows in a tile, so that the compiler knows it */
#define EACH_COUNT \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#else
#define EACH_COUNT CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#endif

/* The tile above for m <= TILE_ROWS rows of a with unit a_k and TILE_VECS vectors, the form that a product with weights needs. */
static void row_tile(long m, long k, const float *a, long a_row, const float *b, const float *bias, const float *plus,
                     long plus_row, float *c, long c_row) {
#define CASE(M) \
    case M: tile(M, TILE_VECS, k, a, a_row, 1, b, PANEL, bias, plus, plus_row, c, c_row); break;
    switch (m) { EACH_COUNT }
#undef CASE
}

/* Weights in bfloat16: an unsigned holds two of them, of terms 2t (low half) and 2t + 1. With the processor's bfloat16 units the other
 * factor is rounded to bfloat16, too; without them it stays float32. Sums are float32 in both cases. */
typedef unsigned pairs __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#if BF16_UNITS
typedef unsigned factor; /* two rounded terms */
#else
typedef float factor;
#endif

/* sum + the two products of pair t. */
INLINE vec add_pair(vec sum, const factor *a, long t, pairs b) {
#if BF16_UNITS && defined(__AVX512BF16__)
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a[t]), (__m512bh)b);
#else
#if BF16_UNITS
    const union { unsigned bits; float value; } low = {a[t] << 16}, high = {a[t] & 0xffff0000u};
    const float first = low.value, second = high.value;
#else
    const float first = a[2 * t], second = a[2 * t + 1];
#endif
    sum += first * (vec)(b << 16);
    return sum + second * (vec)(b & 0xffff0000u);
#endif
}

/* As tile and row_tile, with `count` pairs of terms; a_row counts factors. */
INLINE void tile16(int m, long count, const factor *a, long a_row, const unsigned *b, const float *bias, const float *plus, long plus_row,
                   float *c, long c_row) {
    vec acc[12][4];
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_VECS; v++) acc[i][v] = (vec){0};
    for (long t = 0; t < count; t++)
        for (int v = 0; v < TILE_VECS; v++) {
            const pairs bt = *(const pairs *)(b + t * PANEL + v * LANES);
            for (int i = 0; i < m; i++) acc[i][v] = add_pair(acc[i][v], a + i * a_row, t, bt);
        }
    finish_tile(m, TILE_VECS, acc, bias, plus, plus_row, c, c_row);
}

static void row_tile16(long m, long count, const factor *a, long a_row, const unsigned *b, const float *bias, const float *plus,
                       long plus_row, float *c, long c_row) {
#define CASE(M) \
    case M: tile16(M, count, a, a_row, b, bias, plus, plus_row, c, c_row); break;
    switch (m) { EACH_COUNT }
#undef CASE
}

/* A matrix (k, n) with strides, as panels of PANEL columns (k, PANEL) one after another, the last filled up with zeros. */
void pack(long k, long n, const float *b, long b_k, long b_n, float *panels) {
#pragma omp parallel for schedule(static)
    for (long p = 0; p < (n + PANEL - 1) / PANEL; p++)
        for (long first = 0; first < k; first += 64) /* blocks that fit into the cache, whatever the strides are */
            for (long j = 0; j < PANEL; j++) {
                const long column = p * PANEL + j, last = MIN(k, first + 64);
                float *to = panels + p * k * PANEL + j;
                for (long t = first; t < last; t++) to[t * PANEL] = column < n ? b[t * b_k + column * b_n] : 0.0f;
            }
}

/* The same of a bfloat16 matrix; k is even, and a panel is (k / 2, PANEL) pairs. */
void pack16(long k, long n, const unsigned short *b, long b_k, long b_n, unsigned *panels) {
#pragma omp parallel for schedule(static)
    for (long p = 0; p < (n + PANEL - 1) / PANEL; p++)
        for (long first = 0; first < k / 2; first += 32)
            for (long j = 0; j < PANEL; j++) {
                const long column = p * PANEL + j, last = MIN(k / 2, first + 32);
                unsigned *to = panels + p * (k / 2) * PANEL + j;
                for (long t = first; t < last; t++) {
                    const unsigned short *from = b + 2 * t * b_k + column * b_n;
                    to[t * PANEL] = column < n ? from[0] | (unsigned)from[b_k] << 16 : 0;
                }
            }
}

long panel_width(void) { return PANEL; }
long bf16_units(void) { return BF16_UNITS; }
long lanes(void) { return LANES; }

#if BF16_UNITS
/* Rounded to nearest, ties to even; NaN stays NaN. */
INLINE unsigned rounded_bits(float x) {
    const union { float value; unsigned bits; } u = {x};
    return x == x ? (u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16 : 0x7fc0;
}

static unsigned *rounded_pairs(long count, const float *a) {
    unsigned *to = malloc(count * sizeof(unsigned));
#pragma omp parallel for schedule(static)
    for (long i = 0; i < count; i++) to[i] = rounded_bits(a[2 * i]) | rounded_bits(a[2 * i + 1]) << 16;
    return to;
}
#endif

/* c (m, n) = a (m, k) times packed b (k, n), plus bias (n) and plus (m, n) where given; plus may be c itself. `half`: b is packed by
 * pack16. */
INLINE void multiply(int half, long m, long n, long k, const float *a, const void *panels, const float *bias, const float *plus,
                     float *c, long threads) {
    const long tiles = (m + TILE_ROWS - 1) / TILE_ROWS, count = (n + PANEL - 1) / PANEL;
    long chunk = (tiles + threads - 1) / threads; /* tiles of rows that share a panel while it is in the cache */
    chunk = (chunk + (chunk + 15) / 16 - 1) / ((chunk + 15) / 16);
    const long chunks = (tiles + chunk - 1) / chunk;
#if BF16_UNITS
    unsigned *factors = half ? rounded_pairs(m * k / 2, a) : 0;
    const long factor_row = k / 2, factor_pair = 1;
#else
    const float *factors = a;
    const long factor_row = k, factor_pair = 2;
#endif
#pragma omp parallel for collapse(2) schedule(static)
    for (long b = 0; b < chunks; b++)
        for (long p = 0; p < count; p++) {
            const long first = b * chunk * TILE_ROWS, last = MIN(m, first + chunk * TILE_ROWS), column = p * PANEL;
            const float *panel = (const float *)panels + p * (half ? k / 2 : k) * PANEL;
            for (long i = first; i < last; i += TILE_ROWS) {
                const long rows = MIN(TILE_ROWS, last - i), wide = column + PANEL <= n;
                float edge[TILE_ROWS * PANEL], *to = wide ? c + i * n + column : edge;
                const long to_row = wide ? n : PANEL;
                for (long t = 0; t < k; t += DEPTH) {
                    const float *more = t ? to : plus && wide ? plus + i * n + column : 0, *add = bias && wide && !t ? bias + column : 0;
                    const long terms = MIN(DEPTH, k - t);
                    if (half)
                        row_tile16(rows, terms / 2, factors + i * factor_row + t / 2 * factor_pair, factor_row,
                                   (const unsigned *)panel + t / 2 * PANEL, add, more, to_row, to, to_row);
                    else
                        row_tile(rows, terms, a + i * k + t, k, panel + t * PANEL, add, more, to_row, to, to_row);
                }
                if (!wide)
                    for (long r = 0; r < rows; r++)
                        for (long j = column; j < n; j++) {
                            float s = edge[r * PANEL + j - column];
                            if (bias) s += bias[j];
                            if (plus) s += plus[(i + r) * n + j];
                            c[(i + r) * n + j] = s;
                        }
            }
        }
#if BF16_UNITS
    free(factors);
#endif
}

void product(long m, long n, long k, const float *a, const float *panels, const float *bias, const float *plus, float *c,
             long threads) {
    multiply(0, m, n, k, a, panels, bias, plus, c, threads);
}

void product16(long m, long n, long k, const float *a, const unsigned *panels, const float *bias, const float *plus, float *c,
               long threads) {
    multiply(1, m, n, k, a, panels, bias, plus, c, threads);
}

/* Attention of each sequence to itself. Sequence r has rows starts[r] to starts[r + 1] of q (n, heads * dim) and of k and v
 * (n, kv_heads * dim), the projections' outputs, where the pairs (i, i + dim / 2) of q and k are still to be turned by cos and sin
 * (positions, dim / 2). dim is a multiple of LANES. A row attends to itself and the rows before it. */

#define ATTENTION_ROWS (TILE_ROWS / 2)

/* c (m, n) = a (m, k) b (k, n), all strided; n is a multiple of LANES, m at most ATTENTION_ROWS; `add` adds to c. */
static void small_product(long m, long n, long k, const float *a, long a_row, long a_k, const float *b, long b_row, int add, float *c,
                          long c_row) {
#define TILE(M, V) tile(M, V, k, a, a_row, a_k, b, b_row, 0, add ? c : 0, c_row, c, c_row)
#define CASE(M) \
    case M: \
        if (vecs == 4) TILE(M, 4); \
        else if (vecs == 3) TILE(M, 3); \
        else if (vecs == 2) TILE(M, 2); \
        else TILE(M, 1); \
        break;
    for (; n > 0; n -= 4 * LANES, b += 4 * LANES, c += 4 * LANES) {
        const long vecs = MIN(4, n / LANES);
        switch (m) {
            CASE(1) CASE(2) CASE(3)
#if ATTENTION_ROWS > 3
            CASE(4) CASE(5) CASE(6)
#endif
        }
    }
#undef CASE
#undef TILE
}

/* One head's (time, dim), turned by its positions' angles; `sign` -1 turns back. */
INLINE void turn(long time, long dim, const float *from, long from_row, const float *cos, const float *sin, float sign, float *to,
                 long to_row) {
    const long half = dim / 2;
    for (long t = 0; t < time; t++) {
        const float *f = from + t * from_row, *c = cos + t * half, *s = sin + t * half;
        float *o = to + t * to_row;
#pragma omp simd
        for (long i = 0; i < half; i++) {
            const float x = f[i], y = f[i + half], w = sign * s[i];
            o[i] = x * c[i] - y * w;
            o[i + half] = y * c[i] + x * w;
        }
    }
}

/* (time, dim) to (dim, width), zeros beyond time. */
INLINE void transpose(long time, long dim, const float *from, long from_row, float *to, long width) {
    for (long i = 0; i < dim; i += LANES)
        for (long t = 0; t < width; t++)
            for (long j = i; j < i + LANES; j++) to[j * width + t] = t < time ? from[t * from_row + j] : 0.0f;
}

INLINE long rounded(long n) { return (n + LANES - 1) / LANES * LANES; }

/* Probabilities of rows i to i + m - 1 of one head, p (m, width); zeros after the row's own position. */
INLINE void probabilities(long i, long m, long dim, long width, const float *queries, const float *keys, float scale, float *p) {
    small_product(m, rounded(i + m), dim, queries + i * dim, dim, 1, keys, width, 0, p, width);
    for (long j = i; j < i + m; j++) {
        float *s = p + (j - i) * width, top = s[0], total = 0;
#pragma omp simd reduction(max : top)
        for (long t = 0; t <= j; t++) top = s[t] > top ? s[t] : top;
        for (long t = j + 1; t < rounded(j + 1); t++) s[t] = -INFINITY;
#pragma omp simd
        for (long t = 0; t < rounded(j + 1); t++) s[t] = expf(scale * (s[t] - top));
        for (long t = 0; t < rounded(j + 1); t += LANES) total += sum(load(s + t));
        const float share = 1.0f / total;
#pragma omp simd
        for (long t = 0; t < rounded(j + 1); t++) s[t] *= share;
        for (long t = rounded(j + 1); t < width; t++) s[t] = 0;
    }
}

/* out (n, heads * dim). A sequence may continue rows of another one: prefixes (sequences, 2) has their first row and their number,
 * or is null. longest is the most positions of a sequence, with its prefix. */
void attention(long sequences, const long *starts, const long *prefixes, long longest, long heads, long kv_heads, long dim,
               const float *q, const float *k, const float *v, const float *cos, const float *sin, float scale, float *out) {
    const long shared = heads / kv_heads, row = heads * dim, kv_row = kv_heads * dim, half = dim / 2;
#pragma omp parallel
    {
        float *turned = malloc((2 * longest * dim + (dim + ATTENTION_ROWS) * rounded(longest)) * sizeof(float));
        float *copies = turned + longest * dim, *keys = copies + longest * dim, *p = keys + dim * rounded(longest);
#pragma omp for collapse(2) schedule(dynamic)
        for (long r = 0; r < sequences; r++)
            for (long g = 0; g < kv_heads; g++) {
                const long before = prefixes ? prefixes[2 * r + 1] : 0, from = before ? prefixes[2 * r] * kv_row + g * dim : 0;
                const long own = starts[r + 1] - starts[r], time = before + own, width = rounded(time);
                const long kv_at = starts[r] * kv_row + g * dim, angle = before * half;
                const float *values = v + kv_at;
                turn(before, dim, k + from, kv_row, cos, sin, 1, turned, dim);
                turn(own, dim, k + kv_at, kv_row, cos + angle, sin + angle, 1, turned + before * dim, dim);
                transpose(time, dim, turned, dim, keys, width);
                if (before) { /* one sum over all values, as without a prefix */
                    for (long t = 0; t < time; t++)
                        memcpy(copies + t * dim, v + (t < before ? from + t * kv_row : kv_at + (t - before) * kv_row),
                               dim * sizeof(float));
                    values = copies;
                }
                for (long h = g * shared; h < (g + 1) * shared; h++) {
                    const long at = starts[r] * row + h * dim;
                    turn(own, dim, q + at, row, cos + angle, sin + angle, 1, turned + before * dim, dim);
                    for (long i = before; i < time; i += ATTENTION_ROWS) {
                        const long m = MIN(ATTENTION_ROWS, time - i);
                        probabilities(i, m, dim, width, turned, keys, scale, p);
                        small_product(m, dim, i + m, p, width, 1, values, before ? dim : kv_row, 0, out + at + (i - before) * row,
                                      row);
                    }
                }
            }
        free(turned);
    }
}

/* Keys, turned by their positions, and values of `count` tokens into caches (rows, kv_heads, room, dim). An entry is a token (its row
 * of k and v, (n, kv_heads * dim)), a row of the cache and a position. */
void fill_cache(long count, const long *entries, long kv_heads, long dim, long room, const float *k, const float *v, const float *cos,
                const float *sin, float *keys, float *values) {
    const long half = dim / 2;
#pragma omp parallel for schedule(static)
    for (long e = 0; e < count; e++) {
        const long token = entries[3 * e], row = entries[3 * e + 1], position = entries[3 * e + 2], angle = position * half;
        for (long g = 0; g < kv_heads; g++) {
            const long from = (token * kv_heads + g) * dim, to = ((row * kv_heads + g) * room + position) * dim;
            turn(1, dim, k + from, dim, cos + angle, sin + angle, 1, keys + to, dim);
            memcpy(values + to, v + from, dim * sizeof(float));
        }
    }
}

void attention_backward(long sequences, const long *starts, long longest, long heads, long kv_heads, long dim, const float *q,
                        const float *k, const float *v, const float *cos, const float *sin, float scale, const float *out,
                        const float *d_out, float *dq, float *dk, float *dv) {
    const long shared = heads / kv_heads, row = heads * dim, kv_row = kv_heads * dim, size = longest * dim, wide = rounded(longest);
#pragma omp parallel
    {
        float *queries = malloc((4 * size + 2 * dim * wide + 2 * longest * wide) * sizeof(float));
        float *keys = queries + size, *d_keys = keys + size, *turned = d_keys + size, *keys_t = turned + size;
        float *values_t = keys_t + dim * wide, *p = values_t + dim * wide, *ds = p + longest * wide;
#pragma omp for collapse(2) schedule(dynamic)
        for (long r = 0; r < sequences; r++)
            for (long g = 0; g < kv_heads; g++) {
                const long time = starts[r + 1] - starts[r], width = rounded(time), kv_at = starts[r] * kv_row + g * dim;
                turn(time, dim, k + kv_at, kv_row, cos, sin, 1, keys, dim);
                transpose(time, dim, keys, dim, keys_t, width);
                transpose(time, dim, v + kv_at, kv_row, values_t, width);
                for (long h = g * shared; h < (g + 1) * shared; h++) {
                    const long at = starts[r] * row + h * dim;
                    const int add = h > g * shared;
                    turn(time, dim, q + at, row, cos, sin, 1, queries, dim);
                    for (long i = 0; i < time; i += ATTENTION_ROWS) {
                        const long m = MIN(ATTENTION_ROWS, time - i);
                        float *pi = p + i * width, *di = ds + i * width;
                        probabilities(i, m, dim, width, queries, keys_t, scale, pi);
                        small_product(m, rounded(i + m), dim, d_out + at + i * row, row, 1, values_t, width, 0, di, width);
                        for (long j = 0; j < m; j++) {
                            const float *o = out + at + (i + j) * row, *d = d_out + at + (i + j) * row, *pj = pi + j * width;
                            vec along = {0};
                            for (long t = 0; t < dim; t += LANES) along += load(o + t) * load(d + t);
                            const float mean = sum(along);
#pragma omp simd
                            for (long t = 0; t < rounded(i + m); t++) di[j * width + t] = scale * pj[t] * (di[j * width + t] - mean);
                            for (long t = rounded(i + m); t < width; t++) di[j * width + t] = 0;
                        }
                        small_product(m, dim, i + m, di, width, 1, keys, dim, 0, turned + i * dim, dim);
                    }
                    turn(time, dim, turned, dim, cos, sin, -1, dq + at, row);
                    for (long j = 0; j < time; j += ATTENTION_ROWS) {
                        const long m = MIN(ATTENTION_ROWS, time - j), corner = j * width + j;
                        small_product(m, dim, time - j, ds + corner, 1, width, queries + j * dim, dim, add, d_keys + j * dim, dim);
                        small_product(m, dim, time - j, p + corner, 1, width, d_out + at + j * row, row, add, dv + kv_at + j * kv_row,
                                      kv_row);
                    }
                }
                turn(time, dim, d_keys, dim, cos, sin, -1, dk + kv_at, kv_row);
            }
        free(queries);
    }
}

/* Decoding: appends each row's key and value, turned by its position lengths[row], to its cache (rows, kv_heads, room, dim) and
 * lets its queries attend to all that the row has. q (rows, heads * dim), k and v (rows, kv_heads * dim). */
void attend_cached(long rows, long heads, long kv_heads, long dim, long room, const float *q, const float *k, const float *v,
                   const float *cos, const float *sin, const long *lengths, float scale, float *keys, float *values, float *out) {
    const long shared = heads / kv_heads, half = dim / 2;
#pragma omp parallel
    {
        float *scores = malloc((rounded(room + 1) + dim) * sizeof(float)), *query = scores + rounded(room + 1);
#pragma omp for collapse(2) schedule(static)
        for (long r = 0; r < rows; r++)
            for (long g = 0; g < kv_heads; g++) {
                const long n = lengths[r] + 1, angle = lengths[r] * half, wide = rounded(n);
                float *kg = keys + (r * kv_heads + g) * room * dim, *vg = values + (r * kv_heads + g) * room * dim;
                turn(1, dim, k + (r * kv_heads + g) * dim, dim, cos + angle, sin + angle, 1, kg + (n - 1) * dim, dim);
                memcpy(vg + (n - 1) * dim, v + (r * kv_heads + g) * dim, dim * sizeof(float));
                for (long h = g * shared; h < (g + 1) * shared; h++) {
                    float *o = out + (r * heads + h) * dim, top = -INFINITY, total = 0;
                    turn(1, dim, q + (r * heads + h) * dim, dim, cos + angle, sin + angle, 1, query, dim);
                    for (long t = 0; t < n; t++) {
                        vec s = {0};
                        for (long i = 0; i < dim; i += LANES) s += load(query + i) * load(kg + t * dim + i);
                        scores[t] = sum(s);
                        top = scores[t] > top ? scores[t] : top;
                    }
                    for (long t = n; t < wide; t++) scores[t] = -INFINITY;
#pragma omp simd
                    for (long t = 0; t < wide; t++) scores[t] = expf(scale * (scores[t] - top));
                    for (long t = 0; t < wide; t += LANES) total += sum(load(scores + t));
                    for (long i = 0; i < dim; i += LANES) {
                        vec s = {0};
                        for (long t = 0; t < n; t++) s += scores[t] * load(vg + t * dim + i);
                        store(o + i, s / total);
                    }
                }
            }
        free(scores);
    }
}

/* The three products of a low-rank adapter. Group g has rows starts[g] to starts[g + 1]; its matrix w is at w + g * stride,
 * (rank, d). */

/* Dot products of `m` rows of x with `k` rows of w, m * k being at most LANES: h[i][j] = scale * x[i] w[j]. */
INLINE void dot_block(int m, int k, long d, const float *x, const float *w, float scale, float *h, long h_stride) {
    vec acc[LANES], result;
    for (int i = 0; i < LANES; i++) acc[i] = (vec){0};
    long t = 0;
    for (; t + LANES <= d; t += LANES)
        for (int i = 0; i < m; i++) {
            const vec xi = load(x + i * d + t);
            for (int j = 0; j < k; j++) acc[i * k + j] += xi * load(w + j * d + t);
        }
    result = sums(acc);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < k; j++) {
            float s = result[PLACE(i * k + j)];
            for (long u = t; u < d; u++) s += x[i * d + u] * w[j * d + u];
            h[i * h_stride + j] = scale * s;
        }
}

#define DOT_ROWS (LANES / 4)

/* h (rows, h_stride)[:, :rank] = scale * x w^T, for x (rows, d) */
void lora_down(long groups, long most, const long *starts, long d, long rank, const float *x, const float *w, long stride,
               float scale, float *h, long h_stride) {
#pragma omp parallel for collapse(2) schedule(static)
    for (long g = 0; g < groups; g++)
        for (long m = 0; m < (most + DOT_ROWS - 1) / DOT_ROWS; m++) {
            const long first = starts[g] + m * DOT_ROWS;
            const int count = (int)MIN(DOT_ROWS, starts[g + 1] - first);
            const float *xm = x + first * d, *wg = w + g * stride;
            float *hm = h + first * h_stride;
            for (long k = 0; k < rank; k += 4) {
                const int ranks = (int)MIN(4, rank - k);
                if (count == DOT_ROWS && ranks == 4)
                    dot_block(DOT_ROWS, 4, d, xm, wg + k * d, scale, hm + k, h_stride);
                else
                    for (int i = 0; i < count; i++)
                        for (int j = 0; j < ranks; j++)
                            dot_block(1, 1, d, xm + i * d, wg + (k + j) * d, scale, hm + i * h_stride + k + j, h_stride);
            }
        }
}

/* `m` rows (at most 4) of y += scale * h w. */
INLINE void up_block(
    int m, long d, long rank, const float *h, long h_stride, const float *w, float scale, float *y) {
    long t = 0;
    for (; t + 2 * LANES <= d; t += 2 * LANES) {
        vec acc[4][2];
        for (int i = 0; i < m; i++)
            for (int u = 0; u < 2; u++) acc[i][u] = (vec){0};
        for (long k = 0; k < rank; k++) {
            const vec w0 = load(w + k * d + t), w1 = load(w + k * d + t + LANES);
            for (int i = 0; i < m; i++) {
                const float hk = h[i * h_stride + k];
                acc[i][0] += hk * w0;
                acc[i][1] += hk * w1;
            }
        }
        for (int i = 0; i < m; i++)
            for (int u = 0; u < 2; u++) {
                float *p = y + i * d + t + u * LANES;
                store(p, load(p) + scale * acc[i][u]);
            }
    }
    for (int i = 0; i < m; i++)
        for (long u = t; u < d; u++) {
            float s = 0;
            for (long k = 0; k < rank; k++) s += h[i * h_stride + k] * w[k * d + u];
            y[i * d + u] += scale * s;
        }
}

/* y (rows, d) += scale * h w */
void lora_up(long groups, long most, const long *starts, long d, long rank, const float *h, long h_stride, const float *w,
             long stride, float scale, float *y) {
#pragma omp parallel for collapse(2) schedule(static)
    for (long g = 0; g < groups; g++)
        for (long m = 0; m < (most + 3) / 4; m++) {
            const long first = starts[g] + m * 4;
            const int count = (int)MIN(4, starts[g + 1] - first);
            if (count == 4)
                up_block(4, d, rank, h + first * h_stride, h_stride, w + g * stride, scale, y + first * d);
            else
                for (int i = 0; i < count; i++)
                    up_block(1, d, rank, h + (first + i) * h_stride, h_stride, w + g * stride, scale, y + (first + i) * d);
        }
}

/* out (rank, d) at out + g * stride = scale * h^T x */
void lora_outer(long groups, const long *starts, long d, long rank, const float *h, long h_stride, const float *x, float scale,
                float *out, long stride) {
    const long blocks = (d + 4 * LANES - 1) / (4 * LANES);
#pragma omp parallel for collapse(2) schedule(static)
    for (long g = 0; g < groups; g++)
        for (long b = 0; b < blocks; b++) {
            const long start = b * 4 * LANES, width = MIN(4 * LANES, d - start), rows = starts[g + 1] - starts[g];
            const float *hg = h + starts[g] * h_stride, *xg = x + starts[g] * d + start;
            float *og = out + g * stride + start;
            for (long k = 0; k < rank; k += 4) {
                const int ranks = (int)MIN(4, rank - k);
                if (width == 4 * LANES && ranks == 4) {
                    vec acc[4][4];
                    for (int j = 0; j < 4; j++)
                        for (int u = 0; u < 4; u++) acc[j][u] = (vec){0};
                    for (long m = 0; m < rows; m++) {
                        const float *xm = xg + m * d, *hm = hg + m * h_stride + k;
                        const vec x0 = load(xm), x1 = load(xm + LANES), x2 = load(xm + 2 * LANES), x3 = load(xm + 3 * LANES);
                        for (int j = 0; j < 4; j++) {
                            const float hj = hm[j];
                            acc[j][0] += hj * x0;
                            acc[j][1] += hj * x1;
                            acc[j][2] += hj * x2;
                            acc[j][3] += hj * x3;
                        }
                    }
                    for (int j = 0; j < 4; j++)
                        for (int u = 0; u < 4; u++) store(og + (k + j) * d + u * LANES, scale * acc[j][u]);
                } else
                    for (int j = 0; j < ranks; j++)
                        for (long u = 0; u < width; u++) {
                            float s = 0;
                            for (long m = 0; m < rows; m++) s += hg[m * h_stride + k + j] * xg[m * d + u];
                            og[(k + j) * d + u] = scale * s;
                        }
            }
        }
}

/* L2 norm of n floats: partial sums of fixed blocks in double, so that threads do not change it. */
static double square_norm(long n, const float *g) {
    double total = 0;
    for (long start = 0; start < n; start += 4096) {
        const long end = MIN(n, start + 4096);
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (long i = start; i < end; i++) s += g[i] * g[i];
        total += s;
    }
    return total;
}

void grad_norms(long groups, long n, const float *grads, double *norms) {
#pragma omp parallel for schedule(static)
    for (long g = 0; g < groups; g++) norms[g] = sqrt(square_norm(n, grads + g * n));
}

/* One AdamW step (betas 0.9, 0.999, eps 1e-8) of each group's slot in (slots, n) states, with clip[g] times its gradient;
 * step[g] counts from 1. */
void adamw(long groups, long n, const long *slots, const float *grads, const double *clip, const double *lr,
           const double *decay, const long *step, float *weights, float *exp_avg, float *exp_avg_sq) {
    const long block = 8192, blocks = (n + block - 1) / block;
#pragma omp parallel for collapse(2) schedule(static)
    for (long g = 0; g < groups; g++)
        for (long b = 0; b < blocks; b++) {
            const long start = b * block, end = MIN(n, start + block);
            const float *gr = grads + g * n;
            float *p = weights + slots[g] * n, *m = exp_avg + slots[g] * n, *v = exp_avg_sq + slots[g] * n;
            const float c = (float)clip[g], shrink = (float)(1.0 - lr[g] * decay[g]);
            const float rate = (float)(lr[g] / (1.0 - pow(0.9, (double)step[g])));
            const float correction = (float)sqrt(1.0 - pow(0.999, (double)step[g]));
#pragma omp simd
            for (long i = start; i < end; i++) {
                const float x = gr[i] * c;
                const float mi = m[i] + 0.1f * (x - m[i]), vi = 0.999f * v[i] + 0.001f * x * x;
                m[i] = mi;
                v[i] = vi;
                p[i] = p[i] * shrink - rate * mi / (sqrtf(vi) / correction + 1e-8f);
            }
        }
}

/* out (groups, n) = weights[slots] */
void gather(long groups, long n, const long *slots, const float *weights, float *out) {
#pragma omp parallel for schedule(static)
    for (long g = 0; g < groups; g++) memcpy(out + g * n, weights + slots[g] * n, n * sizeof(float));
}
