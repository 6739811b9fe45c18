/* A stand-in for nvidia-container-runtime-hook. dockerd looks for that name on its own PATH when it starts; for a container
 * with a GPU DeviceRequest runc then calls it as an OCI prestart hook: the OCI state on stdin, status "creating", the
 * container's mounts made in the mount namespace of `pid` but not pivoted into yet, its device cgroup in force.
 * The hook reads NVIDIA_VISIBLE_DEVICES from the bundle and gives the container the nodes of exactly these cards:
 * character devices 195:minor, which no driver answers for (open gives ENXIO, or EPERM where the cgroup forbids it).
 * Cards come from the scenario files in KOHAKURIVER_FAKE_SCENARIOS (colon-separated), which dockerd's environment
 * hands down; KOHAKURIVER_FAKE_HOOK_LOG names a file that gets one line per call. */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "gpu/nvml_api.h"

enum { MAX_PATH = 4096, MAX_MINORS = NVIDIA_MINOR_MODESET };

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *format, ...) {
    va_list args;

    fputs("nvidia-container-cli: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static json_t *load_json(FILE *file, const char *what) {
    json_error_t why;
    json_t *json = file ? json_loadf(file, JSON_DISABLE_EOF_CHECK, &why) : NULL;

    if (!json)
        die("%s: %s", what, file ? why.text : strerror(errno));
    return json;
}

static json_t *load_file(const char *path) {
    FILE *file = fopen(path, "re");
    json_t *json = load_json(file, path);

    fclose(file);
    return json;
}

static const char *member_str(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

/* The value of the last NAME=… in the container's environment; "" when there is none. */
static const char *environment_of(const json_t *config, const char *name) {
    const json_t *item;
    const char *value = "";
    size_t i, len = strlen(name);

    json_array_foreach (json_object_get(json_object_get(config, "process"), "env"), i, item) {
        const char *text = json_string_value(item);
        if (text && strncmp(text, name, len) == 0 && text[len] == '=')
            value = text + len + 1;
    }
    return value;
}

/* Marks the minors of the cards that `wanted` ("all" or one UUID) names. False when there is no such card. */
static bool want_from(const json_t *scenario, const char *wanted, bool minors[static MAX_MINORS]) {
    bool found = false;
    const json_t *card;
    size_t i;

    json_array_foreach (json_object_get(scenario, "gpus"), i, card) {
        json_int_t minor = json_integer_value(json_object_get(card, "minor"));

        if (strcmp(wanted, "all") != 0 && strcmp(wanted, member_str(card, "uuid")) != 0)
            continue;
        if (minor < 0 || minor >= MAX_MINORS)
            die("%s: minor %d is out of range", wanted, (int)minor);
        minors[minor] = found = true;
    }
    return found;
}

static void want(const char *wanted, bool minors[static MAX_MINORS]) {
    const char *list = getenv("KOHAKURIVER_FAKE_SCENARIOS");
    char *paths = strdup(list ? list : ""), *rest = paths;
    bool found = false;

    for (char *path = strsep(&rest, ":"); path; path = strsep(&rest, ":")) {
        json_t *scenario = path[0] ? load_file(path) : NULL;
        found |= want_from(scenario, wanted, minors);
        json_decref(scenario);
    }
    free(paths);
    if (!found)
        die("device error: %s: unknown device", wanted);
}

/* devices.allow of the container's own device cgroup (v1). -1 where there is none: on pure v2 the kernel asks a BPF
 * program that cannot be amended from here, so the nodes show but cannot be opened. */
static int open_allow_file(long pid) {
    char path[MAX_PATH], line[MAX_PATH];
    FILE *file;
    int fd = -1;

    snprintf(path, sizeof path, "/proc/%ld/cgroup", pid);
    file = fopen(path, "re");
    while (file && fd < 0 && fgets(line, sizeof line, file)) {
        char *group = strstr(line, ":devices:");
        if (!group)
            continue;
        group += strlen(":devices:");
        group[strcspn(group, "\n")] = '\0';
        if (snprintf(path, sizeof path, "/sys/fs/cgroup/devices%s/devices.allow", group) < (int)sizeof path)
            fd = open(path, O_WRONLY | O_CLOEXEC);
    }
    if (file)
        fclose(file);
    return fd;
}

static void enter_mounts_of(long pid) {
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/%ld/ns/mnt", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
        die("%s: %s", path, strerror(errno));
    close(fd);
}

static void make_node(const char *root, const char *name, int minor, int allow) {
    char path[MAX_PATH], rule[64];
    int len = snprintf(rule, sizeof rule, "c %d:%d rw", NVIDIA_MAJOR, minor);

    if (snprintf(path, sizeof path, "%s/dev/%s", root, name) >= (int)sizeof path)
        die("%s: the path is too long", root);
    if (mknod(path, S_IFCHR | 0666, makedev(NVIDIA_MAJOR, (unsigned)minor)) < 0 && errno != EEXIST)
        die("%s: %s", path, strerror(errno));
    if (allow >= 0 && write(allow, rule, (size_t)len) != len)
        die("devices.allow: %s", strerror(errno));
}

static void note_call(const char *stage, const json_t *state, const char *visible, const char *capabilities) {
    const char *path = getenv("KOHAKURIVER_FAKE_HOOK_LOG");
    FILE *log = path ? fopen(path, "ae") : NULL;

    if (!log)
        return;
    fprintf(log, "%s id=%s visible=%s capabilities=%s\n", stage, member_str(state, "id"), visible, capabilities);
    fclose(log);
}

static void give(const char *root, long pid, const bool minors[static MAX_MINORS]) {
    int allow = open_allow_file(pid); /* before the mounts change: the container may not see the cgroups */
    char name[32];

    enter_mounts_of(pid);
    umask(0);
    make_node(root, "nvidiactl", NVIDIA_MINOR_CTL, allow);
    for (int minor = 0; minor < MAX_MINORS; minor++) {
        if (!minors[minor])
            continue;
        snprintf(name, sizeof name, "nvidia%d", minor);
        make_node(root, name, minor, allow);
    }
}

int main(int argc, char **argv) {
    json_t *state = load_json(stdin, "OCI state");
    const char *bundle = member_str(state, "bundle");
    long pid = (long)json_integer_value(json_object_get(state, "pid"));
    bool minors[MAX_MINORS] = {false};
    char path[MAX_PATH];
    json_t *config;
    const char *visible, *root;

    if (pid <= 0 || snprintf(path, sizeof path, "%s/config.json", bundle) >= (int)sizeof path)
        die("the OCI state has no pid or no usable bundle");
    config = load_file(path);
    visible = environment_of(config, "NVIDIA_VISIBLE_DEVICES");
    note_call(argc > 1 ? argv[1] : "", state, visible, environment_of(config, "NVIDIA_DRIVER_CAPABILITIES"));
    if (!visible[0] || strcmp(visible, "void") == 0 || strcmp(visible, "none") == 0)
        return 0;
    for (char *rest = strdup(visible), *wanted = strsep(&rest, ","); wanted; wanted = strsep(&rest, ","))
        want(wanted, minors);
    root = member_str(json_object_get(config, "root"), "path");
    if (root[0] != '/' && snprintf(path, sizeof path, "%s/%s", bundle, root) >= (int)sizeof path)
        die("%s: the path is too long", root);
    give(root[0] == '/' ? root : path, pid, minors);
    return 0;
}
