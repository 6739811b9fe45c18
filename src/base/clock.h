#pragma once
/* The two clocks. The core never calls these: time reaches it as an argument. */

#include <stdint.h>

int64_t clock_wall_ms(void); /* Unix time, for people and the store; may jump */
int64_t clock_mono_ms(void); /* since boot, for deadlines; never goes back */

enum { CLOCK_TEXT_BYTES = 32 };
/* "2026-11-22 21:09:51Z" into buf; "-" for 0. Returns buf. */
const char *clock_utc_to_str(int64_t wall_ms, char buf[static CLOCK_TEXT_BYTES]);
