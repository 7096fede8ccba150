/* What the processor can do at most: fused multiply-adds on values that stay in registers, for `peak.py`. */
#ifdef __AVX512F__
#define LANES 16
#define CHAINS 24 /* independent ones, more than latency times units, and no more than there are registers for */
#else
#define LANES 8
#define CHAINS 12
#endif

typedef float vec __attribute__((vector_size(LANES * 4), aligned(4)));

long operations(void) { return 2L * LANES * CHAINS; } /* of a step on one thread */

/* `steps` on each of `threads` threads; sink (threads) keeps the compiler from leaving them out. */
void multiply_add(long steps, long threads, float *sink) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (long thread = 0; thread < threads; thread++) {
        vec sums[CHAINS], factor = (vec){0} + 0.999f, term = (vec){0} + sink[thread], total = {0};
        for (int i = 0; i < CHAINS; i++) sums[i] = term * (float)i;
        for (long step = 0; step < steps; step++)
#pragma GCC unroll 24
            for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * factor + term;
        for (int i = 0; i < CHAINS; i++) total += sums[i];
        sink[thread] = total[0];
    }
}
