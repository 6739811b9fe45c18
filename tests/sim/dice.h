#pragma once
/* Random numbers that one seed and one stream give again: xorshift64* (Marsaglia / Vigna), its state mixed by splitmix64. */

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline void dice_init(struct dice *d, uint64_t seed, uint64_t stream) {
    uint64_t z = seed * 0x9E3779B97F4A7C15ULL + stream * 0xD1B54A32D192ED03ULL + 0x2545F4914F6CDD1DULL;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    d->state = (z ^ (z >> 31)) | 1;
}

static inline uint64_t dice_next(struct dice *d) {
    d->state ^= d->state >> 12;
    d->state ^= d->state << 25;
    d->state ^= d->state >> 27;
    return d->state * 2685821657736338717ULL;
}

static inline unsigned dice_pick(struct dice *d, unsigned n) { return (unsigned)(dice_next(d) >> 33) % n; }
static inline bool dice_chance(struct dice *d, unsigned percent) { return dice_pick(d, 100) < percent; }
