#include "vm/process_tag.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"

enum { MAX_STAT_BYTES = 4096, START_FIELD = 22, STATE_FIELD = 3 };

static void read_boot_id(char *boot_id) {
    g_autofree char *text = NULL;

    if (fs_read_file("/proc/sys/kernel/random/boot_id", PROCESS_BOOT_ID_BYTES - 1, &text, NULL, NULL))
        g_strlcpy(boot_id, g_strstrip(text), PROCESS_BOOT_ID_BYTES);
}

/* The command's name, in parentheses, may hold spaces and parentheses: fields are counted from the last one. */
static bool read_stat(pid_t pid, char *ret_state, unsigned long long *ret_start) {
    char path[32];
    g_autofree char *text = NULL;
    g_auto(GStrv) fields = NULL;
    char *end;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (pid <= 0 || !fs_read_file(path, MAX_STAT_BYTES, &text, NULL, NULL) || !(end = strrchr(text, ')')) || !end[1])
        return false;
    fields = g_strsplit(end + 2, " ", -1);
    if (g_strv_length(fields) <= START_FIELD - STATE_FIELD)
        return false;
    *ret_state = fields[0][0];
    return g_ascii_string_to_unsigned(fields[START_FIELD - STATE_FIELD], 10, 0, G_MAXUINT64, (guint64 *)ret_start,
                                      NULL);
}

bool process_tag_of(pid_t pid, struct process_tag *ret_tag) {
    struct process_tag tag = {.pid = pid};
    char state;

    if (!read_stat(pid, &state, &tag.start_ticks))
        return false;
    read_boot_id(tag.boot_id);
    *ret_tag = tag;
    return true;
}

static bool is_there(const struct process_tag *tag, char *ret_state) {
    char boot_id[PROCESS_BOOT_ID_BYTES] = "";
    unsigned long long start;

    read_boot_id(boot_id);
    return tag->pid > 0 && read_stat(tag->pid, ret_state, &start) && start == tag->start_ticks &&
           strcmp(boot_id, tag->boot_id) == 0;
}

bool process_tag_is_alive(const struct process_tag *tag) {
    char state;

    return is_there(tag, &state);
}

bool process_tag_is_running(const struct process_tag *tag) {
    char state;

    return is_there(tag, &state) && state != 'Z' && state != 'X';
}

/* Opened first, looked at then: what the descriptor names cannot change any more. */
int process_tag_open(const struct process_tag *tag) {
    int fd = tag->pid > 0 ? (int)syscall(SYS_pidfd_open, tag->pid, 0) : -1;

    if (fd >= 0 && !process_tag_is_alive(tag)) {
        close(fd);
        return -1;
    }
    return fd;
}

bool process_tag_kill(const struct process_tag *tag, int signum) {
    _cleanup_fd_ int fd = process_tag_open(tag);

    return fd < 0 || syscall(SYS_pidfd_send_signal, fd, signum, NULL, 0) == 0 || errno == ESRCH;
}

json_t *process_tag_to_json(const struct process_tag *tag) {
    return json_pack("{s:i,s:I,s:s}", "pid", (int)tag->pid, "start_ticks", (json_int_t)tag->start_ticks, "boot_id",
                     tag->boot_id);
}

bool process_tag_from_json(const json_t *json, struct process_tag *ret_tag, GError **error) {
    struct json_reader r = jr_init(json, "process", error);
    struct process_tag tag = {.pid = (pid_t)jr_int(&r, "pid", 0, G_MAXINT32),
                              .start_ticks = (unsigned long long)jr_int(&r, "start_ticks", 0, G_MAXINT64)};
    const char *boot_id = jr_str(&r, "boot_id", PROCESS_BOOT_ID_BYTES - 1);

    g_strlcpy(tag.boot_id, boot_id ? boot_id : "", sizeof tag.boot_id);
    if (!jr_done(&r))
        return false;
    *ret_tag = tag;
    return true;
}
