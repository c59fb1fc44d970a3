/* What the library says of itself and of the processor; see shared.h. */

#include "shared.h"

EXPORT uint64_t fingerprint(void) { return FINGERPRINT; }

/* Whether this processor has AVX2 and the system saves its registers: the library built for x86-64-v3 can run. */
EXPORT int has_avx2(void)
{
#ifdef __x86_64__
    uint32_t a = 7, b, c = 0, d, low, high;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    uint32_t one = 1, none, features = 0, rest;
    __asm__("cpuid" : "+a"(one), "=b"(none), "+c"(features), "=d"(rest));
    uint32_t needed = 1u << 12 | 1u << 27 | 1u << 28; /* FMA, OSXSAVE, AVX */
    if (!(b >> 5 & 1) || !(b >> 3 & 1) || !(b >> 8 & 1) || (features & needed) != needed)
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
#else
    return 0;
#endif
}
