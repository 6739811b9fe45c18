#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_ms(clockid_t id) {
    struct timespec now;

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_wall_ms(void) { return read_ms(CLOCK_REALTIME); }
int64_t clock_mono_ms(void) { return read_ms(CLOCK_MONOTONIC); }

const char *clock_utc_to_str(int64_t wall_ms, char buf[static CLOCK_TEXT_BYTES]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;

    if (wall_ms <= 0 || !gmtime_r(&seconds, &utc) || strftime(buf, CLOCK_TEXT_BYTES, "%Y-%m-%d %H:%M:%SZ", &utc) == 0)
        snprintf(buf, CLOCK_TEXT_BYTES, "-");
    return buf;
}
