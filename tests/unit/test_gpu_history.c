/* What a card did is kept: over restarts, kill -9, wrong clocks, damaged files and full disks, and never shows what was not. */

#include "gpu/gpu_history.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SECOND = 1000,
    MINUTE = 60 * SECOND,
    HOUR = 60 * MINUTE,
    HOLD_MS = 4000,
    FILE_BYTES = 512 + 32 * (600 + 1440 + 2880)
};
#define UUID "GPU-00000000-1111-2222-3333-444444444444"
static const int64_t day_ms = 24LL * HOUR;
static const int64_t t0 = 1900000800000; /* a quarter of an hour begins */

struct fixture {
    char *folder, *path;
    struct gpu_history *history;
    struct gpu *gpu;
};

static void open_again(struct fixture *f) {
    gpu_history_free(f->history);
    f->history = gpu_history_new(f->folder, HOLD_MS);
}

static void set_up(struct fixture *f, gconstpointer data) {
    g_autofree char *parent = g_dir_make_tmp("kr-history-XXXXXX", NULL);

    f->folder = g_build_filename(parent, "history", NULL);
    f->path = g_build_filename(f->folder, UUID, NULL);
    f->gpu = gpu_new();
    g_strlcpy(f->gpu->uuid, UUID, sizeof f->gpu->uuid);
    open_again(f);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    g_autofree char *aside = g_strconcat(f->path, ".unreadable", NULL), *parent = g_path_get_dirname(f->folder);

    gpu_history_free(f->history);
    gpu_free(f->gpu);
    unlink(f->path);
    unlink(aside);
    rmdir(f->folder);
    g_assert_cmpint(rmdir(parent), ==, 0); /* nothing else was left there */
    g_free(f->folder);
    g_free(f->path);
}

static void note(struct fixture *f, int64_t at_ms, int percent) {
    gpu_set(f->gpu, GPU_UTIL, percent);
    gpu_history_note(f->history, f->gpu, at_ms);
}

/* The value for that time, -1: null. */
static int64_t value_at(struct fixture *f, const char *span, const char *name, int64_t now_ms, int64_t at_ms) {
    json_t *json = gpu_history_to_json(f->history, UUID, span, now_ms, NULL);
    int64_t from_ms = json_integer_value(json_object_get(json, "from_ms"));
    int64_t step_ms = json_integer_value(json_object_get(json, "step_ms"));
    const json_t *value = json_array_get(json_object_get(json, name), (size_t)((at_ms - from_ms) / step_ms));
    int64_t result = json_is_integer(value) ? json_integer_value(value) : -1;

    g_assert_nonnull(json);
    g_assert_cmpint(from_ms % step_ms, ==, 0);
    g_assert_nonnull(value);
    json_decref(json);
    return result;
}

static int64_t util_at(struct fixture *f, int64_t now_ms, int64_t at_ms) {
    return value_at(f, "10m", "utilization_percent", now_ms, at_ms);
}

static void test_figures(struct fixture *f, gconstpointer data) {
    gpu_set(f->gpu, GPU_MEM_USED, 3LL << 30);
    gpu_set(f->gpu, GPU_TEMP, -3);
    note(f, t0, 10);
    gpu_set(f->gpu, GPU_MEM_USED, 5LL << 30);
    note(f, t0 + 500, 30); /* two looks within a second */
    g_assert_cmpint(util_at(f, t0, t0), ==, 20);
    g_assert_cmpint(value_at(f, "10m", "memory_used_bytes", t0, t0), ==, 4LL << 30);
    g_assert_cmpint(value_at(f, "24h", "memory_used_bytes_max", t0, t0), ==, 5LL << 30);
    g_assert_cmpint(value_at(f, "24h", "utilization_percent_max", t0, t0), ==, 30);
    g_assert_cmpint(value_at(f, "30d", "utilization_percent", t0, t0), ==, 20);
    g_assert_cmpint(value_at(f, "30d", "temperature_celsius", t0, t0), ==, -3);
    g_assert_cmpint(value_at(f, "10m", "power_mw", t0, t0), ==, -1); /* never seen: absent, not 0 */
    g_assert_cmpint(value_at(f, "24h", "power_mw_max", t0, t0), ==, -1);
}

static void test_gaps(struct fixture *f, gconstpointer data) {
    note(f, t0, 10);
    note(f, t0 + 3 * SECOND, 40);  /* stands for the seconds since the last look */
    note(f, t0 + 10 * SECOND, 70); /* too long after it */
    gpu_unset(f->gpu, GPU_UTIL);
    gpu_history_note(f->history, f->gpu, t0 + 11 * SECOND);
    note(f, t0 + 12 * SECOND, 0);
    g_assert_cmpint(util_at(f, t0 + 12000, t0), ==, 10);
    for (int s = 1; s <= 3; s++)
        g_assert_cmpint(util_at(f, t0 + 12000, t0 + s * SECOND), ==, 40);
    for (int s = 4; s <= 9; s++)
        g_assert_cmpint(util_at(f, t0 + 12000, t0 + s * SECOND), ==, -1);
    g_assert_cmpint(util_at(f, t0 + 12000, t0 + 10 * SECOND), ==, 70);
    g_assert_cmpint(util_at(f, t0 + 12000, t0 + 11 * SECOND), ==, -1);
    g_assert_cmpint(util_at(f, t0 + 12000, t0 + 12 * SECOND), ==, 0);
}

static void test_older_rounds_are_gone(struct fixture *f, gconstpointer data) {
    note(f, t0, 10);
    g_assert_cmpint(util_at(f, t0 + 599 * SECOND, t0), ==, 10);
    note(f, t0 + 600 * SECOND, 20); /* the same slot of the ring */
    g_assert_cmpint(util_at(f, t0 + 600 * SECOND, t0 + 600 * SECOND), ==, 20);
    g_assert_cmpint(util_at(f, t0 + 1100 * SECOND, t0 + 1000 * SECOND), ==, -1);
    g_assert_cmpint(util_at(f, t0 + 1201 * SECOND, t0 + 1200 * SECOND), ==, -1); /* nothing of an older round */
}

/* Time that was wrong for a while: what was noted then is at the times that it was noted for, and nowhere else. */
static void test_clock_jumps(struct fixture *f, gconstpointer data) {
    note(f, t0, 10);
    note(f, t0 + 2 * day_ms, 90);
    note(f, t0 + SECOND, 20);
    g_assert_cmpint(util_at(f, t0 + SECOND, t0 + SECOND), ==, 20);
    for (int s = 2; s < 600; s += 7)
        g_assert_cmpint(util_at(f, t0 + 600 * SECOND, t0 + s * SECOND), ==, -1);
    note(f, t0 - 30 * SECOND, 50);
    g_assert_cmpint(util_at(f, t0 + SECOND, t0 - 30 * SECOND), ==, 50);
    g_assert_cmpint(util_at(f, t0 + SECOND, t0 - 29 * SECOND), ==, -1);
    note(f, -5, 100); /* a clock before 1970 has no slots */
    note(f, 0, 100);
}

static void test_thirty_days(struct fixture *f, gconstpointer data) {
    int64_t step = 30 * SECOND, end = t0 + 31 * day_ms, quarter = 15 * MINUTE, checked = 0;
    struct stat stat_buf;

    for (int64_t t = t0; t < end; t += step)
        note(f, t, (int)(t / quarter % 97));
    for (int64_t t = end - 2879 * quarter; t < end - quarter; t += quarter, checked++) {
        int64_t want = t / quarter % 97;
        if (checked % 100 > 0)
            continue;
        g_assert_cmpint(value_at(f, "30d", "utilization_percent", end - 1, t), ==, want);
        g_assert_cmpint(value_at(f, "30d", "utilization_percent_max", end - 1, t), ==, want);
    }
    g_assert_cmpint(stat(f->path, &stat_buf), ==, 0);
    g_assert_cmpint(stat_buf.st_size, ==, FILE_BYTES);
    g_assert_cmpint(stat_buf.st_blocks * 512, <=, FILE_BYTES + 8192);
}

static void test_restart(struct fixture *f, gconstpointer data) {
    for (int s = 0; s < 60; s++)
        note(f, t0 + s * SECOND, 100);
    open_again(f);
    for (int s = 60; s < 120; s++)
        note(f, t0 + s * SECOND, 0);
    g_assert_cmpint(util_at(f, t0 + 120000, t0 + 30 * SECOND), ==, 100);
    g_assert_cmpint(value_at(f, "30d", "utilization_percent", t0, t0), ==, 50); /* as if nothing had been */
    g_assert_cmpint(value_at(f, "30d", "utilization_percent_max", t0, t0), ==, 100);
}

/* What was noted before the kill is there, and nothing else. */
static void check_killed(struct fixture *f, int64_t start, int64_t n) {
    int64_t last = start + (n - 1) * SECOND;

    open_again(f);
    note(f, last + 2 * SECOND, 99);
    for (int64_t s = MAX(0, n - 590); s < n; s++)
        g_assert_cmpint(util_at(f, last + 2 * SECOND, start + s * SECOND), ==, s % 97);
    g_assert_cmpint(util_at(f, last + 2 * SECOND, last + 2 * SECOND), ==, 99);
    if (n < 500)
        g_assert_cmpint(util_at(f, last, start - SECOND), ==, -1);
}

static void test_kill_9(struct fixture *f, gconstpointer data) {
    volatile int64_t *n = mmap(NULL, sizeof *n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int round = 0; round < 12; round++) {
        int64_t start = t0 + round * 1000000LL * SECOND;
        pid_t pid;

        *n = 0;
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0)
            for (;; (*n)++) /* until it is killed */
                note(f, start + *n * SECOND, (int)(*n % 97));
        while (*n < 1 + round * 40)
            g_usleep(100);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        check_killed(f, start, *n);
    }
    munmap((void *)(uintptr_t)n, sizeof *n);
}

static void damage(struct fixture *f, off_t at, const char *bytes, size_t len) {
    int fd = open(f->path, O_WRONLY);

    g_assert_cmpint(pwrite(fd, bytes, len, at), ==, (ssize_t)len);
    close(fd);
}

static bool was_set_aside(const struct fixture *f) {
    g_autofree char *aside = g_strconcat(f->path, ".unreadable", NULL);

    return access(aside, F_OK) == 0 && unlink(aside) == 0;
}

static void test_unreadable(struct fixture *f, gconstpointer data) {
    static const char *const ways[] = {"header", "short", "empty", "long", "other card"};

    for (size_t i = 0; i < G_N_ELEMENTS(ways); i++) {
        note(f, t0, 10);
        if (i == 0)
            damage(f, 20, "x", 1);
        else if (i < 4)
            g_assert_cmpint(truncate(f->path, i == 1 ? 5000 : i == 2 ? 0 : FILE_BYTES + 1), ==, 0);
        else
            damage(f, 50, "GPU-other", 9);
        open_again(f);
        note(f, t0 + SECOND, 20);
        g_assert_true(was_set_aside(f));
        g_assert_cmpint(util_at(f, t0 + SECOND, t0), ==, -1);
        g_assert_cmpint(util_at(f, t0 + SECOND, t0 + SECOND), ==, 20);
    }
}

static void test_damaged_slots_are_gaps(struct fixture *f, gconstpointer data) {
    for (int s = 0; s < 16; s++)
        note(f, t0 + s * SECOND, 50);
    for (int s = 0; s < 8; s++)
        damage(f, 512 + 32 * (off_t)((t0 / SECOND + s) % 600) + 4 * s, "\x7f\x55", 2);
    open_again(f);
    note(f, t0 + 16 * SECOND, 50);
    g_assert_false(was_set_aside(f));
    for (int s = 0; s < 8; s++)
        g_assert_cmpint(util_at(f, t0 + 16000, t0 + s * SECOND), ==, -1);
    g_assert_cmpint(util_at(f, t0 + 16000, t0 + 8 * SECOND), ==, 50);
}

static void limit_files(rlim_t bytes) {
    struct rlimit limit;

    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* A disk that takes nothing costs the history of that time, and nothing else. */
static void test_full_disk(struct fixture *f, gconstpointer data) {
    g_autoptr(GError) error = NULL;
    int64_t since;

    signal(SIGXFSZ, SIG_IGN);
    limit_files(4096);
    note(f, t0, 0);
    note(f, t0 + SECOND, 0);
    limit_files(0);
    g_assert_null(gpu_history_to_json(f->history, UUID, "10m", t0, &error));
    g_assert_nonnull(error);
    g_assert_true(gpu_history_idle_since(f->history, UUID, &since));
    g_assert_cmpint(access(f->path, F_OK), !=, 0); /* no half-made file */
    note(f, t0 + 2 * SECOND, 0);                   /* not tried at each look */
    g_assert_cmpint(access(f->path, F_OK), !=, 0);
    note(f, t0 + 61 * SECOND, 30);
    g_assert_cmpint(util_at(f, t0 + 61 * SECOND, t0 + 61 * SECOND), ==, 30);
    limit_files(512); /* a file that is there takes no new space; here its writes fail all the same */
    note(f, t0 + 62 * SECOND, 40);
    limit_files(0);
    note(f, t0 + 63 * SECOND, 50);
    g_assert_cmpint(util_at(f, t0 + 63 * SECOND, t0 + 61 * SECOND), ==, 30);
    g_assert_cmpint(util_at(f, t0 + 63 * SECOND, t0 + 62 * SECOND), ==, -1);
    g_assert_cmpint(util_at(f, t0 + 63 * SECOND, t0 + 63 * SECOND), ==, 50);
}

static int64_t idle_since(struct fixture *f) {
    int64_t since_ms = -1;

    gpu_history_idle_since(f->history, UUID, &since_ms);
    return since_ms;
}

static void test_idle_since(struct fixture *f, gconstpointer data) {
    g_assert_cmpint(idle_since(f), ==, -1);
    note(f, t0, 50);
    g_assert_cmpint(idle_since(f), ==, -1);
    for (int s = 1; s < 300; s++)
        note(f, t0 + s * SECOND + 200, s % 2);
    g_assert_cmpint(idle_since(f), ==, t0 + SECOND); /* the same in every heartbeat */
    gpu_unset(f->gpu, GPU_UTIL);
    gpu_history_note(f->history, f->gpu, t0 + 301 * SECOND);
    g_assert_cmpint(idle_since(f), ==, -1); /* not known is not idle */
    note(f, t0 + 302 * SECOND, 1);
    g_assert_cmpint(idle_since(f), ==, t0 + SECOND);
    note(f, t0 + 500 * SECOND, 0); /* who knows what was meanwhile */
    g_assert_cmpint(idle_since(f), ==, t0 + 500 * SECOND);
    note(f, t0 + 501 * SECOND, 2);
    g_assert_cmpint(idle_since(f), ==, -1);
    note(f, t0 + 502 * SECOND, 1);
    note(f, t0 + 400 * SECOND, 1); /* set back: not idle since a time to come */
    g_assert_cmpint(idle_since(f), ==, t0 + 400 * SECOND);
}

static void test_idle_since_survives(struct fixture *f, gconstpointer data) {
    int64_t t = t0;

    note(f, t, 80);
    for (t += SECOND; t < t0 + 100 * SECOND; t += SECOND)
        note(f, t, 0);
    open_again(f);
    g_assert_cmpint(idle_since(f), ==, -1);
    note(f, t + 60 * SECOND, 0);
    g_assert_cmpint(idle_since(f), ==, t0 + SECOND);
    for (; t < t0 + 30 * HOUR; t += 2 * SECOND)
        note(f, t, 1);
    open_again(f);
    note(f, t, 0);
    g_assert_cmpint(idle_since(f), >=, t0 + SECOND); /* never longer than it was */
    g_assert_cmpint(idle_since(f), <=, t0 + 15 * MINUTE);
    open_again(f);
    note(f, t + 5 * MINUTE, 0);
    g_assert_cmpint(idle_since(f), ==, t + 5 * MINUTE);
    open_again(f);
    note(f, t + 5 * MINUTE + SECOND, 70);
    g_assert_cmpint(idle_since(f), ==, -1);
    note(f, t + 5 * MINUTE + 2 * SECOND, 0);
    g_assert_cmpint(idle_since(f), ==, t + 5 * MINUTE + 2 * SECOND);
}

static void test_old_files_go(struct fixture *f, gconstpointer data) {
    struct timespec old[2] = {{.tv_sec = g_get_real_time() / G_USEC_PER_SEC - 31 * 86400}, {0}};

    note(f, t0, 10);
    open_again(f);
    g_assert_cmpint(access(f->path, F_OK), ==, 0);
    old[1] = old[0];
    g_assert_cmpint(utimensat(AT_FDCWD, f->path, old, 0), ==, 0);
    open_again(f);
    g_assert_cmpint(access(f->path, F_OK), !=, 0);
}

static void test_names(struct fixture *f, gconstpointer data) {
    static const char *const wrong[] = {"", "../escape", "GPU/1", ".", "GPU 1"};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_strlcpy(f->gpu->uuid, wrong[i], sizeof f->gpu->uuid);
        note(f, t0, 10);
    }
    g_assert_cmpint(access(f->folder, F_OK), !=, 0);
    g_assert_null(gpu_history_to_json(f->history, UUID, "10m", t0, &error));
    g_clear_error(&error);
    g_strlcpy(f->gpu->uuid, UUID, sizeof f->gpu->uuid);
    note(f, t0, 10);
    g_assert_null(gpu_history_to_json(f->history, UUID, "1y", t0, &error));
    g_assert_nonnull(strstr(error->message, "24h"));
}

static const struct {
    const char *name;
    void (*run)(struct fixture *f, gconstpointer data);
} tests[] = {
    {"figures", test_figures},
    {"gaps", test_gaps},
    {"older-rounds", test_older_rounds_are_gone},
    {"clock-jumps", test_clock_jumps},
    {"thirty-days", test_thirty_days},
    {"restart", test_restart},
    {"kill-9", test_kill_9},
    {"unreadable", test_unreadable},
    {"damaged-slots", test_damaged_slots_are_gaps},
    {"full-disk", test_full_disk},
    {"idle-since", test_idle_since},
    {"idle-since-survives", test_idle_since_survives},
    {"old-files", test_old_files_go},
    {"names", test_names},
};

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/gpu-history/", tests[i].name, NULL);
        g_test_add(path, struct fixture, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
