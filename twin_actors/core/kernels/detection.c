/* Detection, second half: the loops of twin_actors/core/detection/ensemble.py and charts.py; see shared.h. */

#include "detection.h"

struct row { /* the memory of one row of some twins, as it lies or gathered */
    double *level[LAST_AT + 1];
    float *scale[SCALES];
    float *day, *week;
};

INLINE float weight(float count, float least) { return at_least_f(1.0f / count, least); } /* ensemble._weight */

INLINE float evidence(const struct limits *limits, float statistic, int view) /* ensemble._evidence */
{
    float units = at_most_f(statistic * limits->unit[view], limits->most);
    return units * units * units * limits->weight[view];
}

INLINE float move(double *longer, double *shorter, double x, double slow, double fast) /* ensemble._shift */
{
    *shorter += (x - *shorter) * fast;
    *longer += (x - *longer) * slow;
    return (float)__builtin_fabs(*shorter - *longer);
}

INLINE float record(const struct limits *limits, float *largest, float magnitude, float keep) /* charts.record */
{
    float before = *largest;
    float ratio = at_most_f(magnitude / at_least_f(before, limits->small), limits->largest_f);
    *largest = at_least_f(before * keep, magnitude);
    return before > 0.0f ? ratio : 0.0f;
}

/* charts.tail, without a branch: all is computed and the one in twenty that exceeds is chosen. */
static void tail_block(
    ptrdiff_t n, const struct limits *limits, const float *restrict magnitude, const float *restrict weighs,
    float *restrict quantile, float *restrict excess, float *restrict number, float *restrict mean,
    float *restrict statistic)
{
    const float share = limits->tail, least = limits->tail_least, small = limits->small, largest = limits->largest_f,
                times = limits->tail_step, teaching = limits->tail_teaching;
    EACH (i, n) {
        float m = magnitude[i], w = weighs[i], middle = mean[i], limit = quantile[i], before = excess[i],
              seen = number[i];
        float away = (m - middle) * w;
        middle += m == m ? away : 0.0f;
        float step = m == m ? middle * (times * at_least_f(w, least)) : 0.0f;
        float beyond = m - limit;
        float told = at_most_f(beyond / at_least_f(before, small), largest);
        float more = seen + 1.0f;
        float learns = at_most_f(at_least_f(w / share, 1.0f / more), 1.0f);
        float moved = before + learns * (beyond - before);
        int over = m > limit;
        statistic[i] = (over & (seen > teaching)) ? told : 0.0f;
        limit += over ? step : 0.0f;
        step *= share;
        mean[i] = middle;
        quantile[i] = limit - step;
        number[i] = over ? more : seen;
        excess[i] = over ? moved : before;
    }
}

INLINE float taught(float knew, float now, float weighs) /* what a course learns: ensemble._courses */
{
    float learnt = (now - knew) * weighs + knew;
    return knew == knew ? learnt : now;
}

/* What is known of a block's readings beside its memory, in the nearest cache. */
struct block {
    float weight[BLOCK], residual[BLOCK], z[BLOCK], statistic[WEIGHED][BLOCK], same[BLOCK], through[BLOCK],
        knew_day[BLOCK], knew_week[BLOCK];
};

static void shift_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict said, const float *restrict count,
    double *restrict longer, double *restrict shorter, float *restrict largest, float *restrict weighs,
    float *restrict statistic)
{
    const float slow = limits->long_least, fast = limits->short_least;
    EACH (i, n) {
        float c = count[i];
        weighs[i] = weight(c, slow);
        float shift = move(longer + i, shorter + i, held(said[i], limits), (double)weighs[i], (double)weight(c, fast));
        statistic[i] = record(limits, largest + i, shift, limits->fade);
    }
}

static void ratio_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict log_x, const float *restrict count,
    double *restrict longer, double *restrict shorter, float *restrict largest, float *restrict statistic)
{
    const float slow = limits->long_least, fast = limits->short_least, learning = limits->learning;
    EACH (i, n) {
        float since = at_least_f(count[i] - learning, 1.0f);
        float shift = move(longer + i, shorter + i, log_x[i], (double)weight(since, slow), (double)weight(since, fast));
        statistic[i] = record(limits, largest + i, shift, 1.0f);
    }
}

static void course_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict log_x, const float *restrict count,
    float *restrict day, float *restrict week, float *restrict knew_day, float *restrict knew_week,
    float *restrict residual)
{
    const float learning = limits->learning, day_bins = limits->day_bins, week_bins = limits->week_bins,
                day_least = limits->day_least, week_least = limits->week_least;
    EACH (i, n) {
        float c = count[i], now = (float)log_x[i], by_day = day[i], by_week = week[i];
        float day_learnt = taught(by_day, now, weight(c / day_bins + 1.0f, day_least));
        float week_learnt = taught(by_week, now, weight(c / week_bins + 1.0f, week_least));
        float day_away = __builtin_fabsf(now - by_day), week_away = __builtin_fabsf(now - by_week);
        float nearer = ((day_away != day_away) | (week_away < day_away)) ? week_away : day_away; /* np.fmin */
        knew_day[i] = by_day;
        knew_week[i] = by_week;
        day[i] = c <= learning ? by_day : day_learnt;
        week[i] = c <= learning ? by_week : week_learnt;
        residual[i] = c <= learning ? __builtin_nanf("") : nearer;
    }
}

static void z_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict innovation, const double *restrict variance,
    float *restrict z)
{
    const double least = limits->least_variance, largest = limits->largest;
    EACH (i, n)
        z[i] = (float)at_most(__builtin_fabs(innovation[i]) / __builtin_sqrt(at_least(variance[i], least)), largest);
}

/* Where a value is the one before it: 1, else 0. */
static void same_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict said, const double *restrict last,
    float *restrict same)
{
    EACH (i, n)
        same[i] = held(said[i], limits) == last[i] ? 1.0f : 0.0f;
}

/* charts.run_length and charts.latch on the summed evidence, in numbers of one size only. */
static void latch_block(
    ptrdiff_t n, const struct limits *limits, const float *restrict same, const float *restrict count,
    float *restrict peak, float *restrict age, float *restrict run, float *restrict longest,
    const float *restrict shift, const float *restrict ratio, const float *restrict season,
    const float *restrict model, float *restrict through)
{
    const float learning = limits->learning, stuck_at_least = limits->stuck_at_least, worse = limits->worse,
                stuck_evidence = limits->stuck_evidence, hold = limits->hold;
    EACH (i, n) {
        float total = evidence(limits, shift[i], SHIFT_VIEW);
        total += evidence(limits, ratio[i], RATIO_VIEW);
        total += evidence(limits, season[i], SEASON_VIEW);
        total += evidence(limits, model[i], MODEL_VIEW);
        float before = run[i], kept = same[i] != 0.0f ? before : 0.0f, length = kept + 1.0f;
        float ever = at_least_f(longest[i], same[i] != 0.0f ? 0.0f : before);
        run[i] = length;
        longest[i] = ever;
        int ready = count[i] > learning, stuck = (length == at_least_f(2.0f * ever, stuck_at_least)) & ready;
        total = ready ? total : 0.0f;
        float older = age[i] + 1.0f, highest = peak[i];
        int passes = (total > highest * worse) | (older > hold);
        float told = passes ? total : 0.0f;
        peak[i] = passes ? total : highest;
        age[i] = passes ? 0.0f : older;
        float least = at_least_f(told, stuck_evidence);
        through[i] = stuck ? least : told;
    }
}

/* All but the last values, which may still be asked for. */
static void score_block(
    ptrdiff_t n, const struct limits *limits, struct row row, const double *said,
    const double *log_x, const double *innovation, const double *variance, struct block *work, float *through)
{
    const float *count = row.scale[COUNT];
    float **season = row.scale + SEASON, **model = row.scale + MODEL;
    shift_block(n, limits, said, count, row.level[LONG], row.level[SHORT], row.scale[LARGEST_SHIFT], work->weight,
                work->statistic[SHIFT_VIEW]);
    ratio_block(n, limits, log_x, count, row.level[LONG_LOG], row.level[SHORT_LOG], row.scale[LARGEST_RATIO],
                work->statistic[RATIO_VIEW]);
    course_block(n, limits, log_x, count, row.day, row.week, work->knew_day, work->knew_week, work->residual);
    tail_block(n, limits, work->residual, work->weight, season[QUANTILE], season[EXCESS], season[NUMBER], season[MEAN],
               work->statistic[SEASON_VIEW]);
    z_block(n, limits, innovation, variance, work->z);
    tail_block(n, limits, work->z, work->weight, model[QUANTILE], model[EXCESS], model[NUMBER], model[MEAN],
               work->statistic[MODEL_VIEW]);
    same_block(n, limits, said, row.level[LAST], work->same);
    latch_block(n, limits, work->same, count, row.scale[PEAK], row.scale[AGE], row.scale[RUN],
                row.scale[LONGEST_RUN], work->statistic[SHIFT_VIEW], work->statistic[RATIO_VIEW],
                work->statistic[SEASON_VIEW], work->statistic[MODEL_VIEW], through);
}

static void keep_last(
    ptrdiff_t n, const struct limits *limits, const double *restrict said, const double *restrict at_s,
    double *restrict last, double *restrict last_at)
{
    EACH (i, n) {
        last[i] = held(said[i], limits);
        last_at[i] = at_s[i];
    }
}

struct gathered { /* a block whose twins do not lie side by side, or do not all say the row at the same hour */
    double level[LAST_AT + 1][BLOCK], at_s[BLOCK], said[BLOCK], log_x[BLOCK], innovation[BLOCK], variance[BLOCK];
    float scale[SCALES][BLOCK], day[BLOCK], week[BLOCK];
};

enum { KEPT = WEIGHED + 4 }; /* of a place that may be an alarm: the statistics, last, last_at, knew by day, by week */

INLINE int any_above(ptrdiff_t n, const float *told, float limit)
{
    int any = 0;
    EACH (i, n)
        any |= told[i] > limit;
    return any;
}

/* One row of a block as it lies in the memory: `place` is that of its first twin in a row of it. */
INLINE struct row lying(
    ptrdiff_t lines, ptrdiff_t place, ptrdiff_t day, ptrdiff_t week, double *levels, float *scales, float *course)
{
    struct row row;
    EACH (k, LAST_AT + 1)
        row.level[k] = levels + k * lines + place;
    EACH (k, SCALES)
        row.scale[k] = scales + k * lines + place;
    row.day = course + day * lines + place;
    row.week = course + week * lines + place;
    return row;
}

INLINE int one_hour(ptrdiff_t n, const intptr_t *day, const intptr_t *week)
{
    intptr_t others = 0;
    EACH (i, n)
        others |= (day[i] ^ day[0]) | (week[i] ^ week[0]);
    return !others;
}

/* Second half: `through (rows, b)` is the evidence let through. What is about to be overwritten behind evidence above
   `worth` goes into `kept (…, KEPT)` with its place (row · b + column) in `places`; returns how many they are. */
EXPORT int64_t detect_score(
    const struct limits *limits, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t b, const intptr_t *twins, int dense,
    double *levels, float *scales, float *course, const intptr_t *day, const intptr_t *week, const double *at_s,
    const double *x, ptrdiff_t x_step, const double *log_x, const double *innovation, ptrdiff_t innovation_step,
    const double *variance, ptrdiff_t variance_step, float *through, int64_t *places, double *kept)
{
    int64_t found = 0;
    int said_at[BLOCK];
    struct block work;
    struct gathered own;
    const ptrdiff_t lines = rows * n;
    EACH (r, rows)
        for (ptrdiff_t first = 0; first < b; first += BLOCK) {
            ptrdiff_t size = b - first < BLOCK ? b - first : BLOCK, number = size;
            const double *said = x + r * x_step + first, *logs = log_x + r * b + first,
                         *off = innovation + r * innovation_step + first,
                         *spread = variance + r * variance_step + first, *moments = at_s + first;
            float *out = through + r * b + first, *told = out;
            const intptr_t *days = day + first, *weeks = week + first;
            int straight = dense && all_said(size, said) && one_hour(size, days, weeks);
            struct row row;
            if (straight)
                row = lying(lines, r * n + twins[first], days[0], weeks[0], levels, scales, course);
            else {
                number = said_of(size, said, said_at);
                EACH (k, LAST_AT + 1)
                    row.level[k] = own.level[k];
                EACH (k, SCALES)
                    row.scale[k] = own.scale[k];
                row.day = own.day;
                row.week = own.week;
                EACH (i, number) {
                    ptrdiff_t j = said_at[i];
                    struct row its = lying(lines, r * n + twins[first + j], days[j], weeks[j], levels, scales, course);
                    EACH (k, LAST_AT + 1)
                        own.level[k][i] = *its.level[k];
                    EACH (k, SCALES)
                        own.scale[k][i] = *its.scale[k];
                    own.day[i] = *its.day;
                    own.week[i] = *its.week;
                    own.at_s[i] = moments[j];
                    own.said[i] = said[j];
                    own.log_x[i] = logs[j];
                    own.innovation[i] = off[j];
                    own.variance[i] = spread[j];
                }
                said = own.said, logs = own.log_x, off = own.innovation, spread = own.variance, moments = own.at_s;
                told = work.through;
            }
            score_block(number, limits, row, said, logs, off, spread, &work, told);
            if (any_above(number, told, limits->worth))
                EACH (i, number)
                    if (told[i] > limits->worth) {
                        double *behind = kept + found * KEPT;
                        EACH (view, WEIGHED)
                            behind[view] = (double)work.statistic[view][i];
                        behind[WEIGHED] = row.level[LAST][i];
                        behind[WEIGHED + 1] = row.level[LAST_AT][i];
                        behind[WEIGHED + 2] = (double)work.knew_day[i];
                        behind[WEIGHED + 3] = (double)work.knew_week[i];
                        places[found++] = r * b + first + (straight ? i : said_at[i]);
                    }
            keep_last(number, limits, said, moments, row.level[LAST], row.level[LAST_AT]);
            if (straight)
                continue;
            EACH (i, size)
                out[i] = 0.0f;
            EACH (i, number) {
                ptrdiff_t j = said_at[i];
                struct row its = lying(lines, r * n + twins[first + j], days[j], weeks[j], levels, scales, course);
                EACH (k, LAST_AT + 1)
                    *its.level[k] = own.level[k][i];
                EACH (k, SCALES)
                    *its.scale[k] = own.scale[k][i];
                *its.day = own.day[i];
                *its.week = own.week[i];
                out[j] = told[i];
            }
        }
    return found;
}
