/* The filter: the loops of twin_actors/core/estimation.py and fidelity.py; see shared.h. */

#include "shared.h"

INLINE double clipped(double x, double low, double high) /* np.clip, its signs of zero included */
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

INLINE int finite(double x) { return x - x == 0.0; }

static int all_finite(
    ptrdiff_t n, const double *restrict moved, const double *restrict variance, const double *restrict drift2_h,
    ptrdiff_t by_twin, const double *restrict elapsed_h)
{
    int sound = 1;
    if (by_twin)
        EACH (i, n)
            sound &= finite(moved[i]) & finite(variance[i] + drift2_h[i] * elapsed_h[i]);
    else
        EACH (i, n)
            sound &= finite(moved[i]) & finite(variance[i] + drift2_h[0] * elapsed_h[i]);
    return sound;
}

static void advance_row(
    ptrdiff_t n, const double *restrict moved, double *restrict x, double *restrict variance,
    const double *restrict drift2_h, ptrdiff_t by_twin, const double *restrict elapsed_h, double unsure2, double low,
    double high)
{
    EACH (i, n)
        x[i] = clipped(moved[i], low, high);
    if (by_twin)
        EACH (i, n)
            variance[i] = at_most(variance[i] + drift2_h[i] * elapsed_h[i], unsure2);
    else
        EACH (i, n)
            variance[i] = at_most(variance[i] + drift2_h[0] * elapsed_h[i], unsure2);
}

/* Take `moved (rows, b)` over as the state within its limits, and let the variance grow (estimation.grow_variance).
   Returns 0, and has changed nothing, where a number is not finite: a model has failed. `drift2_twin` is 1 where the
   drift is given by twin, 0 where all twins have the same. */
EXPORT int advance(
    ptrdiff_t rows, ptrdiff_t b, const double *moved, ptrdiff_t moved_step, double *x, ptrdiff_t x_step,
    double *variance, ptrdiff_t variance_step, const double *drift2_h, ptrdiff_t drift2_step, ptrdiff_t drift2_twin,
    const double *elapsed_h, const double *unsure2, const double *low, const double *high)
{
    EACH (r, rows)
        if (!all_finite(b, moved + r * moved_step, variance + r * variance_step, drift2_h + r * drift2_step,
                        drift2_twin, elapsed_h))
            return 0;
    EACH (r, rows)
        advance_row(b, moved + r * moved_step, x + r * x_step, variance + r * variance_step,
                    drift2_h + r * drift2_step, drift2_twin, elapsed_h, unsure2[r], low[r], high[r]);
    return 1;
}

static void fold_row(
    ptrdiff_t n, double *restrict x, double *restrict variance, const double *restrict values,
    const uint8_t *restrict usable, const double *restrict noise, ptrdiff_t by_twin, double low, double high,
    double tiny, double *restrict innovation, double *restrict spread)
{
    const double unknown = __builtin_nan(""), same = noise[0];
    EACH (i, n) {
        double prior = variance[i], total = prior + (by_twin ? noise[i] : same), off = values[i] - x[i];
        double gain = prior / at_least(total, tiny);
        innovation[i] = usable[i] ? off : unknown;
        spread[i] = usable[i] ? total : unknown;
        x[i] = clipped(x[i] + (usable[i] ? gain * off : 0.0), low, high);
        variance[i] = usable[i] ? prior * (1.0 - gain) : prior;
    }
}

/* estimation.fold_diagonal where every state row has at most one reading row, `reader (states,)`, -1: none, and
   `measured (readings,)` says the same the other way round; then the state within its limits. `innovation` and `spread (readings, b)` are NaN wherever nothing came. */
EXPORT void fold_diagonal(
    ptrdiff_t states, ptrdiff_t readings, ptrdiff_t b, const intptr_t *reader, const intptr_t *measured, double *x,
    ptrdiff_t x_step, double *variance, ptrdiff_t variance_step, const double *values, ptrdiff_t values_step, const uint8_t *usable,
    ptrdiff_t usable_step, const double *noise, ptrdiff_t noise_step, ptrdiff_t noise_twin, const double *low,
    const double *high, double tiny, double *innovation, double *spread)
{
    EACH (r, readings)
        if (measured[r] < 0)
            EACH (i, b)
                innovation[r * b + i] = spread[r * b + i] = __builtin_nan("");
    EACH (s, states) {
        ptrdiff_t r = reader[s];
        if (r < 0)
            EACH (i, b)
                x[s * x_step + i] = clipped(x[s * x_step + i], low[s], high[s]);
        else
            fold_row(b, x + s * x_step, variance + s * variance_step, values + r * values_step,
                     usable + r * usable_step, noise + r * noise_step, noise_twin, low[s], high[s], tiny,
                     innovation + r * b, spread + r * b);
    }
}

static void record_row(
    ptrdiff_t n, const double *restrict innovation, const double *restrict variance, float *restrict error2,
    float *restrict covered, float forget, float z2, float largest2)
{
    EACH (i, n) {
        float off = (float)innovation[i], wide = (float)variance[i] * z2, before = error2[i], share = covered[i];
        float off2 = at_most_f(off * off, largest2);
        int came = off2 == off2;
        float inside = off2 <= wide ? 1.0f : 0.0f;
        before = before == before ? before : off2;
        float now = before + (off2 - before) * forget, then = share + (inside - share) * forget;
        error2[i] = came ? now : error2[i];
        covered[i] = came ? then : share;
    }
}

/* fidelity.Fidelity._fold */
EXPORT void record_fidelity(
    ptrdiff_t rows, ptrdiff_t b, const double *innovation, ptrdiff_t innovation_step, const double *variance,
    ptrdiff_t variance_step, float *error2, ptrdiff_t error2_step, float *covered, ptrdiff_t covered_step,
    float forget, float z2, float largest2)
{
    EACH (r, rows)
        record_row(b, innovation + r * innovation_step, variance + r * variance_step, error2 + r * error2_step,
                   covered + r * covered_step, forget, z2, largest2);
}

enum { MOST_FIELDS = 8 };

/* estimation.fold_joint for one reading field that reads field `field` of a block of `k` fields with `m` components:
   field i of component c is row rows[i * m + c] of `x`; `covariance (k, k, m, …)`. */
EXPORT void fold_joint(
    ptrdiff_t k, ptrdiff_t m, ptrdiff_t b, ptrdiff_t field, const intptr_t *rows, double *x, ptrdiff_t x_step,
    double *covariance, ptrdiff_t covariance_step, const double *values, ptrdiff_t values_step, const uint8_t *usable,
    ptrdiff_t usable_step, const double *noise, ptrdiff_t noise_step, ptrdiff_t noise_twin, double tiny,
    double *innovation, double *spread)
{
    const double unknown = __builtin_nan("");
    double cross[MOST_FIELDS], gain[MOST_FIELDS];
    EACH (c, m)
        EACH (n, b) {
            double *own = covariance + c * covariance_step + n;
            double *mine = x + n;
            ptrdiff_t line = m * covariance_step;
            if (!usable[c * usable_step + n]) {
                innovation[c * b + n] = spread[c * b + n] = unknown;
                continue;
            }
            double off = values[c * values_step + n] - mine[rows[field * m + c] * x_step];
            EACH (i, k)
                cross[i] = own[(i * k + field) * line];
            double total = cross[field] + noise[c * noise_step + n * noise_twin], over = at_least(total, tiny);
            EACH (i, k)
                gain[i] = cross[i] / over;
            EACH (i, k) {
                mine[rows[i * m + c] * x_step] += gain[i] * off;
                EACH (j, i + 1) {
                    double less = own[(i * k + j) * line] - gain[i] * cross[j];
                    own[(i * k + j) * line] = own[(j * k + i) * line] = less;
                }
            }
            innovation[c * b + n] = off;
            spread[c * b + n] = total;
        }
}

/* estimation.cholesky of one component: `covariance (k, k)` of lines of twins, `line` and `own` elements apart; what is
   above the diagonal of `factor` is zero already. */
static void factor_block(
    ptrdiff_t k, ptrdiff_t n, const double *covariance, ptrdiff_t line, double *factor, ptrdiff_t own)
{
    EACH (j, k)
        for (ptrdiff_t i = j; i < k; i++) {
            double *restrict rest = factor + (i * k + j) * own;
            const double *restrict from = covariance + (i * k + j) * line;
            EACH (t, n)
                rest[t] = 0.0 + from[t];
            EACH (earlier, j) {
                const double *restrict a = factor + (i * k + earlier) * own, *b = factor + (j * k + earlier) * own;
                EACH (t, n)
                    rest[t] -= a[t] * b[t];
            }
            const double *restrict root = factor + (j * k + j) * own;
            if (i == j)
                EACH (t, n)
                    rest[t] = __builtin_sqrt(at_least(rest[t], 0.0));
            else
                EACH (t, n)
                    rest[t] = root[t] > 0.0 ? rest[t] / root[t] : 0.0;
        }
}

/* estimation.cholesky: `factor (k, k, m, b)`, all zeros before, of `covariance (k, k, m, …)`. */
EXPORT void cholesky(
    ptrdiff_t k, ptrdiff_t m, ptrdiff_t b, const double *covariance, ptrdiff_t covariance_step, double *factor)
{
    EACH (c, m)
        for (ptrdiff_t first = 0; first < b; first += BLOCK)
            factor_block(k, b - first < BLOCK ? b - first : BLOCK, covariance + c * covariance_step + first,
                         m * covariance_step, factor + c * b + first, m * b);
}

static void spread_row(ptrdiff_t n, double *restrict at, const double *restrict x, double low, double high)
{
    EACH (i, n)
        at[i] = x[i] != x[i] ? x[i] : clipped(x[i], low, high);
}

static void step_row(
    ptrdiff_t n, double *restrict forth, double *restrict back, const double *restrict x,
    const double *restrict factor, double difference, double low, double high)
{
    EACH (i, n) {
        double step = difference * factor[i], up = x[i] + step, down = x[i] - step;
        forth[i] = up != up ? up : clipped(up, low, high);
        back[i] = down != down ? down : clipped(down, low, high);
    }
}

/* Row `row` of estimation.spread_points within its limits, `points (1 + 2 directions, b)`: it is moved along
   `moves` directions from `first` on, by `factor (moves, …, b)`. */
static void spread_field(
    ptrdiff_t b, ptrdiff_t directions, double *points, const double *x, ptrdiff_t first, ptrdiff_t moves,
    const double *factor, ptrdiff_t factor_step, double difference, double low, double high)
{
    spread_row(b, points, x, low, high);
    EACH (d, directions) {
        double *forth = points + (1 + d) * b, *back = forth + directions * b;
        if (d >= first && d < first + moves)
            step_row(b, forth, back, x, factor + (d - first) * factor_step, difference, low, high);
        else {
            spread_row(b, forth, x, low, high);
            spread_row(b, back, x, low, high);
        }
    }
}

/* The rows `rows (k, m)` of a block, whose `factor (k, k, m, b)` is dense; k = 0: rows that no direction moves. */
EXPORT void spread_points(
    ptrdiff_t k, ptrdiff_t m, ptrdiff_t b, ptrdiff_t directions, ptrdiff_t first, const intptr_t *rows, double *points,
    const double *x, ptrdiff_t x_step, const double *factor, double difference, const double *low, const double *high)
{
    EACH (i, k ? k : 1)
        EACH (c, m) {
            ptrdiff_t row = rows[i * m + c];
            const double *own = k ? factor + (i * k * m + c) * b : 0;
            spread_field(b, directions, points + row * (1 + 2 * directions) * b, x + row * x_step, first,
                         k ? i + 1 : 0, own, m * b, difference, low[row], high[row]);
        }
}
