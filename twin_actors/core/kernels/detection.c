/* Detection: the loops of twin_actors/core/detection/ensemble.py and charts.py; see shared.h. */

#include "shared.h"

enum { LONG, SHORT, LONG_LOG, SHORT_LOG, LAST, LAST_AT }; /* memory.LEVELS */
enum { /* memory.SCALES */
    COUNT, DEVIATION, MAGNITUDE, LARGEST_SHIFT, LARGEST_RATIO,
    SEASON, MODEL = SEASON + 4, PEAK = MODEL + 4, AGE, RUN, LONGEST_RUN, SCALES
};
enum { QUANTILE, EXCESS, NUMBER, MEAN }; /* charts.Tail */
enum { SHIFT_VIEW, RATIO_VIEW, SEASON_VIEW, MODEL_VIEW, WEIGHED }; /* memory.View */

/* ensemble.Limits: they are declared in Python only */
struct limits {
    double largest, least_variance;
    float learning, long_least, short_least, day_least, week_least, day_bins, week_bins, fade, small, largest_f,
        scale_share, scale_least, tail, tail_least, tail_step, tail_teaching, unit[WEIGHED], weight[WEIGHED], most,
        stuck_at_least, stuck_evidence, hold, worse, worth;
};

struct row { /* the memory of one row of some twins, as it lies or gathered */
    double *level[LAST_AT + 1];
    float *scale[SCALES];
    float *day, *week;
};

INLINE double held(double x, const struct limits *limits) /* np.clip */
{
    return at_most(at_least(x, -limits->largest), limits->largest);
}

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

/* Said places of a block of a row, into `places`; how many. */
INLINE ptrdiff_t said_of(ptrdiff_t n, const double *x, int *places)
{
    ptrdiff_t number = 0;
    EACH (i, n) {
        places[number] = (int)i;
        number += x[i] == x[i];
    }
    return number;
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
            ptrdiff_t number = said_of(size, said, places);
            total += number;
            if (dense && number == size) {
                ptrdiff_t t = twins[first];
                scale_block(size, limits, said, count + t, deviation + t, magnitude + t, usual + t, out);
                continue;
            }
            EACH (i, size)
                out[i] = 0.0;
            EACH (k, number) {
                ptrdiff_t i = places[k], t = twins[first + i];
                scale_block(1, limits, said + i, count + t, deviation + t, magnitude + t, usual + t, out + i);
            }
        }
    return total;
}

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
    float weight[BLOCK], residual[BLOCK], z[BLOCK], statistic[WEIGHED][BLOCK], through[BLOCK], knew_day[BLOCK],
        knew_week[BLOCK];
    double last[BLOCK], last_at[BLOCK];
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

/* charts.run_length and charts.latch on the summed evidence. */
static void latch_block(
    ptrdiff_t n, const struct limits *limits, const double *restrict said, const double *restrict last,
    const float *restrict count, float *restrict peak, float *restrict age, float *restrict run,
    float *restrict longest, const float *restrict shift, const float *restrict ratio, const float *restrict season,
    const float *restrict model, float *restrict through)
{
    EACH (i, n) {
        float total = evidence(limits, shift[i], SHIFT_VIEW);
        total += evidence(limits, ratio[i], RATIO_VIEW);
        total += evidence(limits, season[i], SEASON_VIEW);
        total += evidence(limits, model[i], MODEL_VIEW);
        int same = held(said[i], limits) == last[i], ready = count[i] > limits->learning;
        float before = run[i], length = (same ? before : 0.0f) + 1.0f;
        float ever = at_least_f(longest[i], same ? 0.0f : before);
        run[i] = length;
        longest[i] = ever;
        int stuck = (length == at_least_f(2.0f * ever, limits->stuck_at_least)) & ready;
        total = ready ? total : 0.0f;
        float older = age[i] + 1.0f, highest = peak[i];
        int passes = (total > highest * limits->worse) | (older > limits->hold);
        float told = passes ? total : 0.0f;
        peak[i] = passes ? total : highest;
        age[i] = passes ? 0.0f : older;
        through[i] = stuck ? at_least_f(told, limits->stuck_evidence) : told;
    }
}

static void score_block(
    ptrdiff_t n, const struct limits *limits, struct row row, const double *at_s, const double *said,
    const double *log_x, const double *innovation, const double *variance, struct block *work)
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
    latch_block(n, limits, said, row.level[LAST], count, row.scale[PEAK], row.scale[AGE], row.scale[RUN],
                row.scale[LONGEST_RUN], work->statistic[SHIFT_VIEW], work->statistic[RATIO_VIEW],
                work->statistic[SEASON_VIEW], work->statistic[MODEL_VIEW], work->through);
    EACH (i, n) {
        work->last[i] = row.level[LAST][i];
        work->last_at[i] = row.level[LAST_AT][i];
        row.level[LAST][i] = held(said[i], limits);
        row.level[LAST_AT][i] = at_s[i];
    }
}

struct gathered { /* a block whose twins do not lie side by side, or do not all say the row at the same hour */
    double level[LAST_AT + 1][BLOCK], at_s[BLOCK], said[BLOCK], log_x[BLOCK], innovation[BLOCK], variance[BLOCK];
    float scale[SCALES][BLOCK], day[BLOCK], week[BLOCK];
};

enum { KEPT = WEIGHED + 4 }; /* of a place that may be an alarm: the statistics, last, last_at, knew by day, by week */

/* Second half: `through (rows, b)` is the evidence let through. What has been overwritten behind evidence above
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
    EACH (r, rows)
        for (ptrdiff_t first = 0; first < b; first += BLOCK) {
            ptrdiff_t size = b - first < BLOCK ? b - first : BLOCK;
            const double *said = x + r * x_step + first, *logs = log_x + r * b + first,
                         *off = innovation + r * innovation_step + first,
                         *spread = variance + r * variance_step + first;
            ptrdiff_t number = said_of(size, said, said_at);
            int straight = dense && number == size;
            for (ptrdiff_t i = 1; straight && i < size; i++)
                straight = day[first + i] == day[first] && week[first + i] == week[first];
            struct row row;
            if (straight) {
                ptrdiff_t place = r * n + twins[first];
                EACH (k, LAST_AT + 1)
                    row.level[k] = levels + k * rows * n + place;
                EACH (k, SCALES)
                    row.scale[k] = scales + k * rows * n + place;
                row.day = course + day[first] * rows * n + place;
                row.week = course + week[first] * rows * n + place;
                score_block(size, limits, row, at_s + first, said, logs, off, spread, &work);
            } else {
                EACH (k, LAST_AT + 1)
                    row.level[k] = own.level[k];
                EACH (k, SCALES)
                    row.scale[k] = own.scale[k];
                row.day = own.day;
                row.week = own.week;
                EACH (i, number) {
                    ptrdiff_t j = said_at[i], place = r * n + twins[first + j];
                    EACH (k, LAST_AT + 1)
                        own.level[k][i] = levels[k * rows * n + place];
                    EACH (k, SCALES)
                        own.scale[k][i] = scales[k * rows * n + place];
                    own.day[i] = course[day[first + j] * rows * n + place];
                    own.week[i] = course[week[first + j] * rows * n + place];
                    own.at_s[i] = at_s[first + j];
                    own.said[i] = said[j];
                    own.log_x[i] = logs[j];
                    own.innovation[i] = off[j];
                    own.variance[i] = spread[j];
                }
                score_block(number, limits, row, own.at_s, own.said, own.log_x, own.innovation, own.variance, &work);
                EACH (i, number) {
                    ptrdiff_t j = said_at[i], place = r * n + twins[first + j];
                    EACH (k, LAST_AT + 1)
                        levels[k * rows * n + place] = own.level[k][i];
                    EACH (k, SCALES)
                        scales[k * rows * n + place] = own.scale[k][i];
                    course[day[first + j] * rows * n + place] = own.day[i];
                    course[week[first + j] * rows * n + place] = own.week[i];
                }
            }
            float *out = through + r * b + first;
            if (number < size)
                EACH (i, size)
                    out[i] = 0.0f;
            EACH (i, number) {
                out[said_at[i]] = work.through[i];
                if (work.through[i] > limits->worth) {
                    double *behind = kept + found * KEPT;
                    EACH (view, WEIGHED)
                        behind[view] = (double)work.statistic[view][i];
                    behind[WEIGHED] = work.last[i];
                    behind[WEIGHED + 1] = work.last_at[i];
                    behind[WEIGHED + 2] = (double)work.knew_day[i];
                    behind[WEIGHED + 3] = (double)work.knew_week[i];
                    places[found++] = r * b + first + said_at[i];
                }
            }
        }
    return found;
}
