/* What both halves of detection go by: its memory, its limits, and what of a block was said. */

#pragma once

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

INLINE double held(double x, const struct limits *limits) /* np.clip */
{
    return at_most(at_least(x, -limits->largest), limits->largest);
}

/* Whether all of a block of a row was said. */
INLINE int all_said(ptrdiff_t n, const double *x)
{
    int64_t missing = 0;
    EACH (i, n)
        missing |= x[i] != x[i];
    return !missing;
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
