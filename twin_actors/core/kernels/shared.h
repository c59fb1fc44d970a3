/* The loops of detection and filter over many twins, in one pass each where numpy takes dozens.

   Every function does what its namesake in Python does, number by number and in the same order of operations, so that
   both give the same bits: this file is compiled without contraction of a*b+c and without reordering, and what a C
   library rounds in its own way (arcsinh, sinh, expm1) is left to numpy. Columns have the twin on the last axis, which
   is dense; `..._step` is the distance between two rows in elements. Nothing is allocated and nothing can fail. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define EACH(i, n) for (ptrdiff_t i = 0; i < (n); i++)
enum { BLOCK = 256 }; /* twins of a row at a time: all that passes between its loops stays in the nearest cache */

/* As numpy's minimum and maximum with a bound that is a number: what is not a number stays so. */
INLINE float at_least_f(float a, float bound) { return a < bound ? bound : a; }
INLINE float at_most_f(float a, float bound) { return a > bound ? bound : a; }
INLINE double at_least(double a, double bound) { return a < bound ? bound : a; }
INLINE double at_most(double a, double bound) { return a > bound ? bound : a; }
