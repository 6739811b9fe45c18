#include "runner/node_facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "model/node.h"
#include "model/target.h"

enum { MAX_FACT_BYTES = 64 * 1024, SHORT_OF_INODES = 1000 };
static const uint64_t short_of_bytes = 64 * 1024 * 1024;

struct node_facts {
    char *boot_id;
    int cores;
    GPtrArray *numa;      /* of struct numa_node */
    GArray *memory_nodes; /* of int: ids in has_memory */
};

static char *read_line(const char *path) {
    char *text = NULL;

    return fs_read_file(path, MAX_FACT_BYTES, &text, NULL, NULL) ? g_strstrip(text) : NULL;
}

/* "MemTotal:   16 kB" of /proc/meminfo, "Node 0 MemTotal:  16 kB" of a NUMA node's; bytes, -1 when it is not there. */
static int64_t meminfo_bytes(const char *text, const char *key) {
    const char *at = text ? strstr(text, key) : NULL;
    int64_t kib;

    if (!at)
        return -1;
    kib = g_ascii_strtoll(at + strlen(key), NULL, 10);
    return kib >= 0 && kib < G_MAXINT64 / 1024 ? kib * 1024 : -1;
}

/* Ids of a kernel list such as "0-1,3". */
static GArray *ids_of(const char *list) {
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(int));
    const char *at = list ? list : "";

    while (g_ascii_isdigit(*at)) {
        char *end;
        long first = strtol(at, &end, 10), last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        for (long id = first; id <= last && id <= TARGET_MAX_NUMBER; id++) {
            int value = (int)id;
            g_array_append_val(ids, value);
        }
        at = *end == ',' ? end + 1 : end;
    }
    return ids;
}

static void add_numa_node(struct node_facts *facts, const char *folder, int id) {
    g_autofree char *cpulist_path = g_strdup_printf("%s/node%d/cpulist", folder, id);
    g_autofree char *meminfo_path = g_strdup_printf("%s/node%d/meminfo", folder, id);
    g_autofree char *cpulist = read_line(cpulist_path);
    g_autofree char *meminfo = read_line(meminfo_path);

    if (cpulist && cpulist_count(cpulist) >= 0 && strlen(cpulist) <= NODE_TEXT_MAX_BYTES &&
        facts->numa->len < NODE_MAX_NUMA)
        g_ptr_array_add(facts->numa, numa_node_new(id, cpulist, MAX(meminfo_bytes(meminfo, "MemTotal:"), 0)));
}

static int compare_ids(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void read_numa(struct node_facts *facts, const char *sysfs_root) {
    g_autofree char *folder = g_build_filename(sysfs_root, "sys/devices/system/node", NULL);
    g_autofree char *has_memory_path = g_build_filename(folder, "has_memory", NULL);
    g_autofree char *has_memory = read_line(has_memory_path);
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        if (g_str_has_prefix(name, "node") && g_ascii_isdigit(name[4])) {
            int id = (int)MIN(g_ascii_strtoll(name + 4, NULL, 10), TARGET_MAX_NUMBER + 1);
            if (id <= TARGET_MAX_NUMBER)
                g_array_append_val(ids, id);
        }
    g_array_sort(ids, compare_ids);
    for (guint i = 0; i < ids->len; i++)
        add_numa_node(facts, folder, g_array_index(ids, int, i));
    facts->memory_nodes = ids_of(has_memory);
}

static char *read_boot_id(void) {
#ifdef KR_FAULT_POINTS
    if (g_getenv("KOHAKURIVER_BOOT_ID"))
        return g_strdup(g_getenv("KOHAKURIVER_BOOT_ID"));
#endif
    return read_line("/proc/sys/kernel/random/boot_id");
}

const char *node_facts_boot_id(const struct node_facts *facts) { return facts->boot_id ? facts->boot_id : ""; }

struct node_facts *node_facts_new(const char *sysfs_root, int cpus_reserved) {
    struct node_facts *facts = g_new0(struct node_facts, 1);

    facts->boot_id = read_boot_id();
    facts->cores = (int)MAX(sysconf(_SC_NPROCESSORS_ONLN) - cpus_reserved, 0);
    facts->numa = g_ptr_array_new_with_free_func((GDestroyNotify)numa_node_free);
    read_numa(facts, sysfs_root);
    return facts;
}

void node_facts_free(struct node_facts *facts) {
    if (!facts)
        return;
    g_free(facts->boot_id);
    g_ptr_array_unref(facts->numa);
    g_array_unref(facts->memory_nodes);
    g_free(facts);
}

bool node_facts_numa(const struct node_facts *facts, int id, const char **ret_cpulist, bool *ret_has_memory) {
    for (guint i = 0; i < facts->numa->len; i++) {
        const struct numa_node *node = facts->numa->pdata[i];
        if (node->id != id)
            continue;
        *ret_cpulist = node->cpulist;
        *ret_has_memory = false;
        for (guint k = 0; k < facts->memory_nodes->len; k++)
            *ret_has_memory |= g_array_index(facts->memory_nodes, int, k) == id;
        return true;
    }
    return false;
}

void node_facts_describe(const struct node_facts *facts, struct node_info *info) {
    g_autofree char *meminfo = read_line("/proc/meminfo");
    int64_t total = meminfo_bytes(meminfo, "MemTotal:"), available = meminfo_bytes(meminfo, "MemAvailable:");

    g_free(info->boot_id);
    info->boot_id = g_strdup(facts->boot_id ? facts->boot_id : "");
    g_free(info->version);
    info->version = g_strdup(KR_VERSION);
    info->cores = facts->cores;
    info->mem_total_bytes = MAX(total, 0);
    info->mem_used_bytes = total > 0 && available >= 0 && available <= total ? total - available : 0;
    for (guint i = 0; i < facts->numa->len; i++) {
        const struct numa_node *node = facts->numa->pdata[i];
        g_ptr_array_add(info->numa, numa_node_new(node->id, node->cpulist, node->mem_bytes));
    }
}

bool node_facts_disk_check(const char *folder, bool suspect, GError **error) {
    g_autofree char *path = g_build_filename(folder, "write-test", NULL);
    g_autofree char *text = NULL;
    struct statvfs space;

    if (statvfs(folder, &space) < 0)
        return fs_fail_errno(error, errno, "look at", folder);
    if (!suspect && (uint64_t)space.f_bavail * space.f_frsize > short_of_bytes &&
        (space.f_files == 0 || space.f_favail > SHORT_OF_INODES))
        return true;
    text = g_strnfill(16 * 1024, 'x'); /* as much as a lease file with a long command */
    return fs_write_durable(path, 0600, text, strlen(text), error) && fs_remove_durable(path, error);
}
