#include "runner/node_facts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

enum { SMALL_FILE = 64 * 1024 };

static char *read_text(const char *path) {
    char *text = NULL;

    return fs_read_file(path, SMALL_FILE, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

/* The number behind `key` of a meminfo file, in bytes; 0 when it is not there. */
static int64_t meminfo_bytes(const char *text, const char *key) {
    const char *at = text ? strstr(text, key) : NULL;

    return at ? strtoll(at + strlen(key), NULL, 10) * 1024 : 0;
}

static void read_memory(struct node_info *info) {
    g_autofree char *text = read_text("/proc/meminfo");

    info->mem_total_bytes = meminfo_bytes(text, "MemTotal:");
    info->mem_used_bytes = MAX(info->mem_total_bytes - meminfo_bytes(text, "MemAvailable:"), 0);
}

static struct numa_node *read_numa_node(const char *folder, int id) {
    g_autofree char *cpulist_path = g_strdup_printf("%s/node%d/cpulist", folder, id);
    g_autofree char *meminfo_path = g_strdup_printf("%s/node%d/meminfo", folder, id);
    g_autofree char *cpulist = read_text(cpulist_path);
    g_autofree char *meminfo = read_text(meminfo_path);
    g_autofree char *key = g_strdup_printf("Node %d MemTotal:", id);

    return cpulist && cpulist_count(cpulist) >= 0 ? numa_node_new(id, cpulist, meminfo_bytes(meminfo, key)) : NULL;
}

static int by_id(gconstpointer a, gconstpointer b) {
    return (*(struct numa_node *const *)a)->id - (*(struct numa_node *const *)b)->id;
}

static void read_numa(const char *sysfs_root, struct node_info *info) {
    g_autofree char *folder = g_build_filename(sysfs_root, "sys/devices/system/node", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    g_ptr_array_set_size(info->numa, 0);
    while (dir && (name = g_dir_read_name(dir)) && info->numa->len < NODE_MAX_NUMA) {
        guint64 id;
        struct numa_node *node;
        if (!g_str_has_prefix(name, "node") || !g_ascii_string_to_unsigned(name + 4, 10, 0, 1023, &id, NULL))
            continue;
        node = read_numa_node(folder, (int)id);
        if (node)
            g_ptr_array_add(info->numa, node);
    }
    g_ptr_array_sort(info->numa, by_id);
}

void node_facts_read(const char *sysfs_root, struct node_info *info) {
    g_free(info->boot_id);
    info->boot_id = read_text("/proc/sys/kernel/random/boot_id");
    info->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    read_memory(info);
    read_numa(sysfs_root, info);
}

/* Whether a kernel list such as "0-1,3" contains the number. */
static bool list_has(const char *list, int number) {
    for (const char *at = list; *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : "") {
        char *end;
        long first = strtol(at, &end, 10);
        long last = *end == '-' ? strtol(end + 1, NULL, 10) : first;
        if (end != at && number >= first && number <= last)
            return true;
    }
    return false;
}

bool node_facts_has_memory(const char *sysfs_root, int numa) {
    g_autofree char *path = g_build_filename(sysfs_root, "sys/devices/system/node/has_memory", NULL);
    g_autofree char *list = read_text(path);

    return list && list_has(list, numa);
}
