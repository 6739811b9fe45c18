#include "runner/survivors.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

enum { MAX_TEXT_BYTES = 64 * 1024, MAX_NAMED = 8 };

static char *read_text(const char *format, ...) G_GNUC_PRINTF(1, 2);
static char *read_text(const char *format, ...) {
    g_autofree char *path = NULL;
    char *text = NULL;
    va_list args;

    va_start(args, format);
    path = g_strdup_vprintf(format, args);
    va_end(args);
    return fs_read_file(path, MAX_TEXT_BYTES, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

/* The pids of its cgroup, one per line. A line of /proc/PID/cgroup is "0::/path" (v2) or "4:memory:/path" (v1). */
static char *pids_of_cgroup(pid_t pid) {
    g_autofree char *text = read_text("/proc/%d/cgroup", (int)pid);
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;

    for (char **line = lines; line && *line; line++) {
        g_auto(GStrv) parts = g_strsplit(*line, ":", 3);
        char *pids = NULL;
        if (g_strv_length(parts) != 3 || strcmp(parts[2], "/") == 0)
            continue;
        if (parts[1][0] == '\0')
            pids = read_text("/sys/fs/cgroup%s/cgroup.procs", parts[2]);
        else if (strcmp(parts[1], "memory") == 0 || strcmp(parts[1], "pids") == 0)
            pids = read_text("/sys/fs/cgroup/%s%s/cgroup.procs", parts[1], parts[2]);
        if (pids && pids[0])
            return pids;
        g_free(pids);
    }
    return NULL;
}

/* "pid 4711 python3 (state D in nv_wait)"; NULL when it is gone. proc(5): comm stands in parentheses and may hold any byte. */
static char *describe(int pid) {
    g_autofree char *stat = read_text("/proc/%d/stat", pid), *wchan = read_text("/proc/%d/wchan", pid);
    char *begin = stat ? strchr(stat, '(') : NULL, *end = stat ? strrchr(stat, ')') : NULL;
    g_autofree char *name = NULL;

    if (!begin || !end || end < begin || strlen(end) < 3)
        return NULL;
    name = g_utf8_make_valid(begin + 1, end - begin - 1);
    return g_strdup_printf("pid %d %s (state %c%s%s)", pid, name, end[2], wchan && wchan[0] > '0' ? " in " : "",
                           wchan && wchan[0] > '0' ? wchan : "");
}

char *survivors_of(pid_t pid) {
    g_autofree char *alone = g_strdup_printf("%d", (int)pid), *pids = pid > 0 ? pids_of_cgroup(pid) : NULL;
    g_auto(GStrv) list = g_strsplit(pids ? pids : alone, "\n", -1);
    g_autoptr(GString) text = g_string_new(NULL);
    int n = 0;

    for (char **item = list; pid > 0 && *item; item++) {
        g_autofree char *one = describe((int)strtol(*item, NULL, 10));
        if (one && n++ < MAX_NAMED)
            g_string_append_printf(text, "%s%s", text->len ? ", " : "", one);
    }
    if (n == 0)
        return NULL;
    return g_strdup_printf("%d process%s SIGKILL: %s%s", n, n == 1 ? " survives" : "es survive", text->str,
                           n > MAX_NAMED ? " and more" : "");
}
