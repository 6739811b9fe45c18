#include "vfio/vfio_holders.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"

enum { MAX_DEPTH = 3, MAX_NODES = 128, NVIDIA_MAJOR = 195 };

struct node {
    dev_t dev;
    char name[64];
};

/* Folders of a function below which its character devices stand. */
static const char *const classes[] = {"drm", "sound", "graphics", "accel", "vfio-dev"};

static void add_node(GArray *nodes, unsigned major_number, unsigned minor_number, const char *name) {
    struct node node = {.dev = makedev(major_number, minor_number)};

    g_strlcpy(node.name, name, sizeof node.name);
    if (nodes->len < MAX_NODES)
        g_array_append_val(nodes, node);
}

/* A file `dev` holds "226:0". Links are not followed: they lead to other devices. */
static void walk(const char *folder, const char *name, int depth, GArray *nodes) {
    g_autofree char *dev = vfio_read_text(folder, "dev");
    DIR *dir = depth < MAX_DEPTH ? opendir(folder) : NULL;
    const struct dirent *entry;
    char *colon;

    if (dev && (colon = strchr(dev, ':')))
        add_node(nodes, (unsigned)strtoul(dev, NULL, 10), (unsigned)strtoul(colon + 1, NULL, 10), name);
    while (dir && (entry = readdir(dir))) {
        g_autofree char *below = g_build_filename(folder, entry->d_name, NULL);
        g_autofree char *below_name = g_build_filename(name, entry->d_name, NULL);
        struct stat st;

        if (entry->d_name[0] != '.' && lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
            walk(below, below_name, depth + 1, nodes);
    }
    if (dir)
        closedir(dir);
}

/* NVIDIA's driver makes nodes that sysfs does not know; it says which in a text of its own. */
static void add_nvidia(const char *root, const struct vfio_function *function, GArray *nodes) {
    g_autofree char *path = g_strdup_printf("proc/driver/nvidia/gpus/%s/information", function->address);
    g_autofree char *text = vfio_read_text(root, path), *name = NULL;
    const char *at = text ? strstr(text, "Device Minor:") : NULL;
    unsigned minor_number;

    if (!at)
        return;
    minor_number = (unsigned)strtoul(at + strlen("Device Minor:"), NULL, 10);
    name = g_strdup_printf("nvidia%u", minor_number);
    add_node(nodes, NVIDIA_MAJOR, minor_number, name);
}

/* Of a machine that has the group open; it is there with any vfio driver, also one that is not ours. */
static void add_group(const char *root, const struct vfio_function *function, GArray *nodes) {
    g_autofree char *name = g_strdup_printf("vfio/%d", function->group);
    g_autofree char *folder = g_build_filename(root, "sys/class", name, NULL);

    if (function->group != VFIO_NO_GROUP)
        walk(folder, name, MAX_DEPTH, nodes);
}

static GArray *nodes_of(const char *root, const struct vfio_function *function) {
    GArray *nodes = g_array_new(FALSE, TRUE, sizeof(struct node));

    for (size_t i = 0; i < G_N_ELEMENTS(classes); i++) {
        g_autofree char *folder = vfio_pci_path(root, function->address, classes[i]);
        walk(folder, classes[i], 0, nodes);
    }
    add_nvidia(root, function, nodes);
    add_group(root, function, nodes);
    return nodes;
}

static const struct node *find_node(const GArray *nodes, dev_t dev) {
    for (guint i = 0; i < nodes->len; i++)
        if (g_array_index(nodes, struct node, i).dev == dev)
            return &g_array_index(nodes, struct node, i);
    return NULL;
}

/* The last part of "0::/system.slice/gdm.service/…" that is a service. */
static void read_unit(pid_t pid, char unit[static VFIO_UNIT_BYTES]) {
    g_autofree char *path = g_strdup_printf("proc/%d/cgroup", (int)pid), *text = vfio_read_text("/", path);
    g_auto(GStrv) parts = g_strsplit_set(text ? text : "", "/\n", -1);

    unit[0] = '\0';
    for (char **part = parts; *part; part++)
        if (g_str_has_suffix(*part, ".service") && g_utf8_validate(*part, -1, NULL))
            g_strlcpy(unit, *part, VFIO_UNIT_BYTES);
}

static void add_holder(GArray *holders, pid_t pid, const char *node) {
    struct vfio_holder holder = {.user = {.pid = pid, .memory_bytes = -1}};

    gpu_user_describe(&holder.user);
    read_unit(pid, holder.unit);
    g_strlcpy(holder.node, node, sizeof holder.node);
    if (holders->len < VFIO_MAX_HOLDERS)
        g_array_append_val(holders, holder);
}

/* AT_STATX_DONT_SYNC: a descriptor on a dead network mount must not hang this. */
static const struct node *node_of_fd(int fds, const char *name, const GArray *nodes) {
    struct statx st;

    if (statx(fds, name, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0 || !S_ISCHR(st.stx_mode))
        return NULL;
    return find_node(nodes, makedev(st.stx_rdev_major, st.stx_rdev_minor));
}

static void scan_process(pid_t pid, const GArray *nodes, GArray *holders) {
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    const struct node *held = NULL;
    DIR *fds = opendir(path);
    const struct dirent *entry;

    while (fds && !held && (entry = readdir(fds)))
        if (entry->d_name[0] != '.')
            held = node_of_fd(dirfd(fds), entry->d_name, nodes);
    if (fds)
        closedir(fds);
    if (held)
        add_holder(holders, pid, held->name);
}

GArray *vfio_holders_of(const char *root, const struct vfio_function *function) {
    g_autoptr(GArray) nodes = nodes_of(root, function);
    GArray *holders = g_array_new(FALSE, TRUE, sizeof(struct vfio_holder));
    DIR *proc = nodes->len > 0 ? opendir("/proc") : NULL;
    const struct dirent *entry;

    while (proc && (entry = readdir(proc)))
        if (g_ascii_isdigit(entry->d_name[0]))
            scan_process((pid_t)g_ascii_strtoll(entry->d_name, NULL, 10), nodes, holders);
    if (proc)
        closedir(proc);
    return holders;
}

char *vfio_holder_to_str(const struct vfio_holder *holder) {
    GString *text = g_string_new(NULL);

    g_string_printf(text, "pid %d %s", (int)holder->user.pid, holder->user.command);
    if (holder->user.user[0])
        g_string_append_printf(text, ", %s", holder->user.user);
    if (holder->unit[0])
        g_string_append_printf(text, ", unit %s", holder->unit);
    if (holder->user.container[0])
        g_string_append_printf(text, ", container %.12s", holder->user.container);
    return g_string_free(text, FALSE);
}

json_t *vfio_holder_to_json(const struct vfio_holder *holder) {
    json_t *json = json_pack("{s:i,s:s,s:s}", "pid", (int)holder->user.pid, "command", holder->user.command, "node",
                             holder->node);

    if (holder->user.user[0])
        json_object_set_new(json, "user", json_string(holder->user.user));
    if (holder->unit[0])
        json_object_set_new(json, "unit", json_string(holder->unit));
    if (holder->user.container[0])
        json_object_set_new(json, "container", json_string(holder->user.container));
    return json;
}

/* By /proc/PID/comm, which the kernel cuts at 15 bytes. */
static const struct {
    const char *command, *fix;
} fixes[] = {
    {"nvidia-persiste",
     "it is told to let go of this card alone (`nvidia-smi -i ADDRESS -pm 0`), and afterwards to take it back"},
    {"nv-hostengine",
     "DCGM holds every card: stop it (systemctl stop nvidia-dcgm), run it without this card, or let a hook "
     "do so (setting vfio_hook)"},
    {"dcgm-exporter",
     "DCGM holds every card: stop the exporter, run it without this card, or let a hook do so (setting "
     "vfio_hook)"},
    {"Xorg", "move the display to another card, or stop the display manager"},
    {"gnome-shell", "move the display to another card, or stop the display manager"},
    {"kohakuriver",
     "the node's agent looks at this card, and lets go when the card is bound for a machine; one that does not "
     "hangs in the driver: see the kernel's log, reboot"},
};

const char *vfio_holder_fix(const struct vfio_holder *holder) {
    for (size_t i = 0; i < G_N_ELEMENTS(fixes); i++)
        if (strcmp(holder->user.command, fixes[i].command) == 0)
            return fixes[i].fix;
    return "end the process, or wait until it is done";
}

bool vfio_holder_is_persistence(const struct vfio_holder *holder) {
    return strcmp(holder->user.command, fixes[0].command) == 0;
}

bool vfio_holder_is_dcgm(const struct vfio_holder *holder) {
    return strcmp(holder->user.command, "nv-hostengine") == 0 || strcmp(holder->user.command, "dcgm-exporter") == 0;
}
