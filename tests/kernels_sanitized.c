/* Calls every kernel on arrays of exactly the size it is promised, for `test_kernels.py`: with AddressSanitizer, a read or a write
 * one float too far ends the program. */
#include KERNELS
#include <stdio.h>

static long between(long low, long high) { return low + rand() % (high - low + 1); }

static float *floats(long n) {
    float *p = malloc(n * sizeof(float));
    for (long i = 0; i < n; i++) p[i] = (float)(i * 7919 % 1000) / 1000 - 0.5f;
    return p;
}

static long *starts_of(long parts, long most, long *total) {
    long *starts = malloc((parts + 1) * sizeof(long));
    starts[0] = 0;
    for (long i = 0; i < parts; i++) starts[i + 1] = starts[i] + between(1, most);
    *total = starts[parts];
    return starts;
}

static void attend(void) {
    const long kv_heads = between(1, 3), heads = kv_heads * between(1, 3), dim = LANES * between(1, 6), half = dim / 2;
    const long sequences = between(1, 4), longest = between(1, 70);
    long n;
    long *starts = starts_of(sequences, longest, &n), *lengths = malloc(sequences * sizeof(long));
    float *q = floats(n * heads * dim), *k = floats(n * kv_heads * dim), *v = floats(n * kv_heads * dim);
    float *cos = floats(2 * longest * half), *sin = floats(2 * longest * half), *out = floats(n * heads * dim);
    float *d_out = floats(n * heads * dim), *dq = floats(n * heads * dim), *dk = floats(n * kv_heads * dim);
    float *dv = floats(n * kv_heads * dim), *keys = floats(sequences * kv_heads * longest * dim);
    float *values = floats(sequences * kv_heads * longest * dim);
    long *prefixes = calloc(2 * sequences, sizeof(long)), *entries = malloc(3 * n * sizeof(long));
    for (long i = 1; i < sequences; i++) {
        const long other = between(0, i - 1);
        prefixes[2 * i] = starts[other];
        prefixes[2 * i + 1] = between(0, starts[other + 1] - starts[other]);
    }
    attention(sequences, starts, prefixes, 2 * longest, heads, kv_heads, dim, q, k, v, cos, sin, 0.1f, out);
    for (long i = 0, e = 0; i < sequences; i++)
        for (long t = starts[i]; t < starts[i + 1]; t++, e++) {
            entries[3 * e] = t;
            entries[3 * e + 1] = i;
            entries[3 * e + 2] = t - starts[i];
        }
    fill_cache(n, entries, kv_heads, dim, longest, k, v, cos, sin, keys, values);
    attention(sequences, starts, 0, longest, heads, kv_heads, dim, q, k, v, cos, sin, 0.1f, out);
    attention_backward(sequences, starts, longest, heads, kv_heads, dim, q, k, v, cos, sin, 0.1f, out, d_out, dq, dk, dv);
    for (long i = 0; i < sequences; i++) lengths[i] = between(0, longest - 1);
    attend_cached(sequences, heads, kv_heads, dim, longest, q, k, v, cos, sin, lengths, 0.1f, keys, values, out);
    float *all[] = {q, k, v, cos, sin, out, d_out, dq, dk, dv, keys, values};
    for (int i = 0; i < 12; i++) free(all[i]);
    free(starts);
    free(lengths);
    free(prefixes);
    free(entries);
}

static void multiply_all(void) {
    const long m = between(1, 100), n = between(1, 150), k = between(1, 600);
    float *a = floats(m * k), *w = floats(n * k), *panels = floats((n + PANEL - 1) / PANEL * PANEL * k), *c = floats(m * n);
    float *bias = floats(n), *plus = floats(m * n);
    pack(k, n, w, 1, k, panels);
    product(m, n, k, a, panels, rand() % 2 ? bias : 0, rand() % 2 ? plus : 0, c, between(1, 3));
    product(m, n, k, a, panels, 0, c, c, 2);
    const long even = 2 * between(1, 300), count = (n + PANEL - 1) / PANEL * PANEL * even / 2;
    unsigned short *half = malloc(n * even * sizeof(unsigned short));
    unsigned *pairs_of = malloc(count * sizeof(unsigned));
    float *terms = floats(m * even);
    for (long i = 0; i < n * even; i++) half[i] = (unsigned short)(0x3f80 + i % 64);
    pack16(even, n, half, 1, even, pairs_of);
    product16(m, n, even, terms, pairs_of, rand() % 2 ? bias : 0, rand() % 2 ? plus : 0, c, between(1, 3));
    pack16(even, n, half, n, 1, pairs_of);
    product16(m, n, even, terms, pairs_of, 0, c, c, 2);
    free(half);
    free(pairs_of);
    free(terms);
    float *all[] = {a, w, panels, c, bias, plus};
    for (int i = 0; i < 6; i++) free(all[i]);
}

static void adapt(void) {
    const long groups = between(1, 5), d = between(1, 200), rank = between(1, 20), h_stride = rank + between(0, 5);
    const long stride = rank * d + between(0, 10);
    long n;
    long *starts = starts_of(groups, 20, &n), *labels = malloc(n * sizeof(long)), *numbers = malloc(groups * sizeof(long));
    double *doubles = malloc(groups * sizeof(double));
    float *x = floats(n * d), *y = floats(n * d), *z = floats(n * d), *w = floats(groups * stride), *h = floats(n * h_stride);
    float *out = floats(groups * stride), *rstd = floats(n), *weight = floats(d), *nll = floats(n);
    float *first = floats(groups * stride), *second = floats(groups * stride);
    lora_down(groups, 20, starts, d, rank, x, w, stride, 0.5f, h, h_stride);
    lora_up(groups, 20, starts, d, rank, h, h_stride, w, stride, 0.5f, x);
    lora_outer(groups, starts, d, rank, h, h_stride, x, 0.5f, out, stride);
    rms_norm(n, d, x, weight, 1e-5f, y, rstd);
    rms_norm_backward(n, d, y, x, weight, rstd, x);
    swiglu(n, d, x, y, z);
    swiglu_backward(n, d, z, x, y);
    for (long i = 0; i < n; i++) labels[i] = between(0, d - 1);
    cross_entropy(n, d, x, labels, rstd, nll);
    grad_norms(groups, stride, w, doubles);
    for (long i = 0; i < groups; i++) numbers[i] = i;
    gather(groups, stride, numbers, w, out);
    for (long i = 0; i < groups; i++) doubles[i] = 0.5;
    long *ones = malloc(groups * sizeof(long));
    for (long i = 0; i < groups; i++) ones[i] = 1;
    adamw(groups, stride, numbers, w, doubles, doubles, doubles, ones, out, first, second);
    float *all[] = {x, y, z, w, h, out, rstd, weight, nll, first, second};
    for (int i = 0; i < 11; i++) free(all[i]);
    free(starts);
    free(labels);
    free(numbers);
    free(ones);
    free(doubles);
}

int main(void) {
    for (int i = 0; i < 150; i++) {
        attend();
        multiply_all();
        adapt();
    }
    puts("clean");
    return 0;
}
