/* Elementwise operations of a Llama-like layer on a CPU, forward and backward, each in one sweep over memory.
 *
 * library.py compiles this file on first use, for the machine at hand, once with -DBF16 and once without: `scalar` is
 * bfloat16 or float. All arithmetic is in float32, and a result is rounded once, to nearest even. One thread computes
 * each row in a fixed order, so the number of threads does not change a bit. All arrays are dense.
 * Letters: B rows, T tokens, H heads, D size of a head, K keys.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef BF16
typedef uint16_t scalar;
static inline float load(scalar x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline scalar store(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (scalar)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float scalar;
static inline float load(scalar x) { return x; }
static inline scalar store(float x) { return x; }
#endif

/* e^x with a relative error of about 1e-7. It makes no call, so loops over it become vector code. x is clamped to
 * [-87, 88]. */
static inline float exp_of(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* x - n ln 2, ln 2 in two parts (Cody and Waite, 1980) */
    float p = 1.0f / 5040 * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* y = w x / rms(x), and 1 / rms(x) of each row, [rows]. x and y are [rows, dim]. */
void rms_norm(const scalar *x, const scalar *w, scalar *y, float *inverse, int64_t rows, int64_t dim, float eps) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const scalar *from = x + i * dim;
        scalar *to = y + i * dim;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < dim; j++) sum += load(from[j]) * load(from[j]);
        float factor = 1.0f / sqrtf(sum / dim + eps);
        inverse[i] = factor;
#pragma omp simd
        for (int64_t j = 0; j < dim; j++) to[j] = store(load(from[j]) * factor * load(w[j]));
    }
}

/* Adds the gradient of rms_norm's input to dx, given that of its output, g. */
void rms_norm_backward(const scalar *g, const scalar *x, const scalar *w, const float *inverse, scalar *dx,
                       int64_t rows, int64_t dim) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const scalar *gi = g + i * dim, *xi = x + i * dim;
        scalar *to = dx + i * dim;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < dim; j++) dot += load(gi[j]) * load(w[j]) * load(xi[j]);
        float factor = inverse[i], along = dot * factor * factor / dim;
#pragma omp simd
        for (int64_t j = 0; j < dim; j++)
            to[j] = store(load(to[j]) + factor * (load(gi[j]) * load(w[j]) - load(xi[j]) * along));
    }
}

/* y = silu(gate) up. */
void swiglu(const scalar *gate, const scalar *up, scalar *y, int64_t count) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) {
        float a = load(gate[i]);
        y[i] = store(a / (1.0f + exp_of(-a)) * load(up[i]));
    }
}

/* The gradients of gate and up, given that of y, g. Replaces g with y. */
void swiglu_backward(const scalar *gate, const scalar *up, scalar *g, scalar *dgate, scalar *dup, int64_t count) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) {
        float a = load(gate[i]), b = load(up[i]), d = load(g[i]);
        float sigmoid = 1.0f / (1.0f + exp_of(-a)), silu = a * sigmoid;
        dgate[i] = store(d * b * (sigmoid + silu * (1.0f - sigmoid)));
        dup[i] = store(d * silu);
        g[i] = store(silu * b);
    }
}

/* Rotary positions (Su et al., 2021), with the two halves of a head as pairs: x [B, T, H, D] -> y [B, H, T, D].
 * cosine and sine are [B, T, D]. */
void rotate(const scalar *x, const scalar *cosine, const scalar *sine, scalar *y, int64_t B, int64_t T, int64_t H,
            int64_t D) {
    int64_t half = D / 2;
#pragma omp parallel for schedule(static)
    for (int64_t bt = 0; bt < B * T; bt++) {
        const scalar *c = cosine + bt * D, *s = sine + bt * D;
        for (int64_t h = 0; h < H; h++) {
            const scalar *from = x + (bt * H + h) * D;
            scalar *to = y + ((bt / T * H + h) * T + bt % T) * D;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                float a = load(from[j]), b = load(from[j + half]);
                to[j] = store(a * load(c[j]) - b * load(s[j]));
                to[j + half] = store(b * load(c[j + half]) + a * load(s[j + half]));
            }
        }
    }
}

/* The gradient of rotate's input x [B, T, H, D], given that of its output, g [B, H, T, D]. */
void rotate_backward(const scalar *g, const scalar *cosine, const scalar *sine, scalar *dx, int64_t B, int64_t T,
                     int64_t H, int64_t D) {
    int64_t half = D / 2;
#pragma omp parallel for schedule(static)
    for (int64_t bt = 0; bt < B * T; bt++) {
        const scalar *c = cosine + bt * D, *s = sine + bt * D;
        for (int64_t h = 0; h < H; h++) {
            const scalar *from = g + ((bt / T * H + h) * T + bt % T) * D;
            scalar *to = dx + (bt * H + h) * D;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                float a = load(from[j]), b = load(from[j + half]);
                to[j] = store(a * load(c[j]) + b * load(s[j + half]));
                to[j + half] = store(b * load(c[j + half]) - a * load(s[j]));
            }
        }
    }
}

/* Replaces scores [repeats, T, K] with softmax(scale scores) over the keys where mask [T, K] is not 0, and with 0
 * elsewhere. Every query must see a key. */
void masked_softmax(scalar *scores, const uint8_t *mask, float scale, int64_t repeats, int64_t T, int64_t K) {
#pragma omp parallel
    {
        float *row = malloc(K * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < repeats * T; i++) {
            scalar *at = scores + i * K;
            const uint8_t *seen = mask + i % T * K;
            float top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
            for (int64_t j = 0; j < K; j++) {
                row[j] = seen[j] ? scale * load(at[j]) : -INFINITY;
                top = row[j] > top ? row[j] : top;
            }
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < K; j++) {
                row[j] = seen[j] ? exp_of(row[j] - top) : 0.0f;
                sum += row[j];
            }
            float factor = 1.0f / sum;
#pragma omp simd
            for (int64_t j = 0; j < K; j++) at[j] = store(row[j] * factor);
        }
        free(row);
    }
}

/* Replaces g [rows, K], the gradient of the softmax p, with that of the scores before scaling. */
void softmax_backward(scalar *g, const scalar *p, float scale, int64_t rows, int64_t K) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        scalar *gi = g + i * K;
        const scalar *pi = p + i * K;
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < K; j++) dot += load(gi[j]) * load(pi[j]);
#pragma omp simd
        for (int64_t j = 0; j < K; j++) gi[j] = store(scale * load(pi[j]) * (load(gi[j]) - dot));
    }
}

/* Adds `from` [H, K, D] to the rows of `to` [H, T, D] that `key` [K] names. No row is named twice. */
void scatter_add(const scalar *from, const int64_t *key, float *to, int64_t H, int64_t K, int64_t T, int64_t D) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < H * K; i++) {
        const scalar *source = from + i * D;
        float *target = to + (i / K * T + key[i % K]) * D;
#pragma omp simd
        for (int64_t j = 0; j < D; j++) target[j] += load(source[j]);
    }
}
