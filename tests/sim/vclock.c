#include "sim/vclock.h"

static int64_t now_mono_ms, now_wall_ms;

void vclock_init(struct vclock *clock) {
    *clock = (struct vclock){.timers = g_ptr_array_new(), .closing = g_ptr_array_new()};
    clock->loop.data = clock;
}

void vclock_clear(struct vclock *clock) {
    vclock_flush(clock);
    g_assert_cmpuint(clock->timers->len, ==, 0);
    g_ptr_array_unref(clock->timers);
    g_ptr_array_unref(clock->closing);
}

void vclock_set(int64_t mono_ms, int64_t wall_ms) {
    now_mono_ms = mono_ms;
    now_wall_ms = wall_ms;
}

static bool is_sooner(const uv_timer_t *a, const uv_timer_t *b) {
    return a->timeout != b->timeout ? a->timeout < b->timeout : a->start_id < b->start_id;
}

static void stop(struct vclock *clock, uv_timer_t *timer) {
    if (timer->start_id)
        g_ptr_array_remove(clock->timers, timer);
    timer->start_id = 0;
}

static void start(struct vclock *clock, uv_timer_t *timer, uint64_t timeout_ms) {
    guint at = clock->timers->len;

    timer->timeout = (uint64_t)now_mono_ms + timeout_ms;
    timer->start_id = ++clock->last_id;
    while (at > 0 && is_sooner(clock->timers->pdata[at - 1], timer))
        at--;
    g_ptr_array_insert(clock->timers, (gint)at, timer);
}

bool vclock_run_one(struct vclock *clock) {
    uv_timer_t *timer = clock->timers->len ? clock->timers->pdata[clock->timers->len - 1] : NULL;

    if (!timer || timer->timeout > (uint64_t)now_mono_ms)
        return false;
    stop(clock, timer);
    if (timer->repeat)
        start(clock, timer, timer->repeat);
    timer->timer_cb(timer);
    vclock_flush(clock);
    return true;
}

void vclock_flush(struct vclock *clock) {
    for (guint i = 0; i < clock->closing->len; i++) { /* it may grow */
        uv_handle_t *handle = clock->closing->pdata[i];
        if (handle->close_cb)
            handle->close_cb(handle);
    }
    g_ptr_array_set_size(clock->closing, 0);
}

/* ---- what the linker puts in the place of libuv and of base/clock.c ---- */

int64_t __wrap_clock_mono_ms(void);
int64_t __wrap_clock_wall_ms(void);
int __wrap_uv_timer_init(uv_loop_t *loop, uv_timer_t *timer);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb on_time, uint64_t timeout_ms, uint64_t repeat_ms);
int __wrap_uv_timer_stop(uv_timer_t *timer);
uint64_t __wrap_uv_timer_get_repeat(const uv_timer_t *timer);
int __wrap_uv_is_active(const uv_handle_t *handle);
void __wrap_uv_close(uv_handle_t *handle, uv_close_cb on_closed);

int64_t __wrap_clock_mono_ms(void) { return now_mono_ms; }
int64_t __wrap_clock_wall_ms(void) { return now_wall_ms; }

int __wrap_uv_timer_init(uv_loop_t *loop, uv_timer_t *timer) {
    timer->loop = loop;
    timer->start_id = timer->repeat = 0;
    return 0;
}

int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb on_time, uint64_t timeout_ms, uint64_t repeat_ms) {
    stop(timer->loop->data, timer);
    timer->timer_cb = on_time;
    timer->repeat = repeat_ms;
    start(timer->loop->data, timer, timeout_ms);
    return 0;
}

int __wrap_uv_timer_stop(uv_timer_t *timer) {
    stop(timer->loop->data, timer);
    return 0;
}

uint64_t __wrap_uv_timer_get_repeat(const uv_timer_t *timer) { return timer->repeat; }

int __wrap_uv_is_active(const uv_handle_t *handle) { return ((const uv_timer_t *)(const void *)handle)->start_id != 0; }

void __wrap_uv_close(uv_handle_t *handle, uv_close_cb on_closed) {
    struct vclock *clock = handle->loop->data;

    stop(clock, (uv_timer_t *)(void *)handle);
    handle->close_cb = on_closed;
    g_ptr_array_add(clock->closing, handle);
}
