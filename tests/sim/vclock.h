#pragma once
/* Time that only the simulator moves. In this program libuv's timers are those of vclock.c (the linker puts them in the
 * place of uv_timer_init and its kin), and the two clocks show what vclock_set said last. A timer belongs to the vclock whose
 * `loop` it was made on; nothing ever sleeps. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct vclock {
    uv_loop_t loop;    /* a name for timers, never run */
    GPtrArray *timers; /* of uv_timer_t, the next one last */
    GPtrArray *closing;
    uint64_t last_id;
};

void vclock_init(struct vclock *clock);
/* All handles must have been closed. */
void vclock_clear(struct vclock *clock);
/* What clock_mono_ms and clock_wall_ms say from now on. */
void vclock_set(int64_t mono_ms, int64_t wall_ms);
/* Runs the earliest timer that is due; false when none is. */
bool vclock_run_one(struct vclock *clock);
/* Calls back for the handles that were closed. */
void vclock_flush(struct vclock *clock);
