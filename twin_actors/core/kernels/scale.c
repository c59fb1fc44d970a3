/* Detection, first half: readings on the scale of their row, as ensemble.py has it; see shared.h. */

#include "detection.h"

static void teach_scale(
    ptrdiff_t n, const struct limits *limits, const double *restrict said, const float *restrict count,
    float *restrict deviation, float *restrict magnitude, double *restrict usual)
{
    EACH (i, n) {
        float c = count[i];
        if (c > limits->learning)
            continue;
        double x = held(said[i], limits);
        if (c == 1.0f)
            usual[i] = x;
        double away = __builtin_fabs(x - usual[i]), size = __builtin_fabs(x);
        double weighs = 1.0f / at_least_f(c - 1.0f, 1.0f);
        deviation[i] = (float)((double)deviation[i] + weighs * (away - (double)deviation[i]));
        weighs = 1.0f / c;
        magnitude[i] = (float)((double)magnitude[i] + weighs * (size - (double)magnitude[i]));
    }
}

/* Count a reading, and put it on the scale of its row: x / scale, whose arcsinh numpy takes. */
static void scale_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict said, float *restrict count,
    float *restrict deviation, float *restrict magnitude, double *restrict usual, double *restrict ratio)
{
    int learning = 0;
    EACH (i, n) {
        count[i] += 1.0f;
        learning |= count[i] <= limits->learning;
    }
    if (learning)
        teach_scale(n, limits, said, count, deviation, magnitude, usual);
    const float share = limits->scale_share, least = limits->scale_least;
    EACH (i, n) {
        float scale = magnitude[i] * share;
        scale += deviation[i];
        scale += least;
        ratio[i] = held(said[i], limits) / (double)scale;
    }
}

/* First half: returns how many of the values `x (rows, b)` were said. `ratio` is 0 where nothing was. */
EXPORT int64_t detect_scale(
    const struct limits *limits, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t b, const intptr_t *twins, int dense,
    double *levels, float *scales, const double *x, ptrdiff_t x_step, double *ratio)
{
    int64_t total = 0;
    int places[BLOCK];
    EACH (r, rows)
        for (ptrdiff_t first = 0; first < b; first += BLOCK) {
            ptrdiff_t size = b - first < BLOCK ? b - first : BLOCK;
            const double *said = x + r * x_step + first;
            double *out = ratio + r * b + first;
            double *usual = levels + (LONG * rows + r) * n;
            float *count = scales + (COUNT * rows + r) * n, *deviation = scales + (DEVIATION * rows + r) * n,
                  *magnitude = scales + (MAGNITUDE * rows + r) * n;
            if (dense && all_said(size, said)) {
                ptrdiff_t t = twins[first];
                scale_block(size, limits, said, count + t, deviation + t, magnitude + t, usual + t, out);
                total += size;
                continue;
            }
            ptrdiff_t number = said_of(size, said, places);
            total += number;
            EACH (i, size)
                out[i] = 0.0;
            EACH (k, number) {
                ptrdiff_t i = places[k], t = twins[first + i];
                scale_block(1, limits, said + i, count + t, deviation + t, magnitude + t, usual + t, out + i);
            }
        }
    return total;
}
