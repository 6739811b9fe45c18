#include "model/node.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/json.h"
#include "model/target.h"

struct node_info *node_info_new(const char *name) {
    struct node_info *info = g_new0(struct node_info, 1);

    info->name = g_strdup(name);
    info->numa = g_ptr_array_new_with_free_func((GDestroyNotify)numa_node_free);
    info->gpus = g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free);
    info->guests = g_ptr_array_new_with_free_func((GDestroyNotify)guest_free);
    info->disk_ok = true;
    return info;
}

void node_info_free(struct node_info *info) {
    if (!info)
        return;
    g_free(info->name);
    g_free(info->boot_id);
    g_free(info->version);
    g_ptr_array_unref(info->numa);
    g_ptr_array_unref(info->gpus);
    g_ptr_array_unref(info->guests);
    g_free(info->gpu_text);
    g_free(info->engine_text);
    json_decref(info->vfio);
    g_free(info->vm_text);
    g_free(info->disk_text);
    g_free(info);
}

/* One "a" or "a-b" of a cpulist; advances *text past it. Number of CPUs, -1 when malformed. */
static int cpulist_range(const char **text) {
    char *end;
    long first, last;

    if (!g_ascii_isdigit(**text))
        return -1;
    first = last = strtol(*text, &end, 10);
    if (*end == '-') {
        if (!g_ascii_isdigit(end[1]))
            return -1;
        last = strtol(end + 1, &end, 10);
    }
    *text = end;
    return last >= first && last < 65536 ? (int)(last - first + 1) : -1;
}

int cpulist_count(const char *cpulist) {
    int count = 0;

    if (*cpulist == '\0')
        return 0;
    for (;;) {
        int n = cpulist_range(&cpulist);
        if (n < 0)
            return -1;
        count += n;
        if (*cpulist == '\0')
            return count;
        if (*cpulist++ != ',')
            return -1;
    }
}

struct numa_node *numa_node_new(int id, const char *cpulist, int64_t mem_bytes) {
    struct numa_node *node = g_new0(struct numa_node, 1);

    node->id = id;
    node->cpulist = g_strdup(cpulist);
    node->cores = MAX(cpulist_count(cpulist), 0);
    node->mem_bytes = mem_bytes;
    return node;
}

void numa_node_free(struct numa_node *node) {
    if (!node)
        return;
    g_free(node->cpulist);
    g_free(node);
}

struct gpu *node_info_gpu_by_index(const struct node_info *info, int index) {
    if (fault_mutant("R4-index-is-position") && index < (int)info->gpus->len)
        return info->gpus->pdata[index];
    for (guint i = 0; i < info->gpus->len; i++) {
        struct gpu *gpu = info->gpus->pdata[i];
        if (gpu->index == index)
            return gpu;
    }
    return NULL;
}

struct gpu *node_info_gpu_by_uuid(const struct node_info *info, const char *uuid) {
    for (guint i = 0; i < info->gpus->len; i++) {
        struct gpu *gpu = info->gpus->pdata[i];
        if (strcmp(gpu->uuid, uuid) == 0)
            return gpu;
    }
    return NULL;
}

struct numa_node *node_info_numa(const struct node_info *info, int id) {
    for (guint i = 0; i < info->numa->len; i++) {
        struct numa_node *node = info->numa->pdata[i];
        if (node->id == id)
            return node;
    }
    return NULL;
}

struct guest *node_info_guest(const struct node_info *info, uint32_t task_id) {
    for (guint i = 0; i < info->guests->len; i++) {
        struct guest *guest = info->guests->pdata[i];
        if (guest->task_id == task_id)
            return guest;
    }
    return NULL;
}

static json_t *numa_to_json(const GPtrArray *numa) {
    json_t *list = json_array();

    for (guint i = 0; i < numa->len; i++) {
        const struct numa_node *node = numa->pdata[i];
        json_array_append_new(list, json_pack("{s:i,s:s,s:I}", "id", node->id, "cpus", node->cpulist, "memory_bytes",
                                              (json_int_t)node->mem_bytes));
    }
    return list;
}

static void set_text(json_t *json, const char *key, const char *text) {
    if (text)
        json_object_set_new(json, key, json_string(text));
}

json_t *node_info_head_to_json(const struct node_info *info) {
    json_t *json = json_object();

    set_text(json, "name", info->name);
    set_text(json, "boot_id", info->boot_id ? info->boot_id : "");
    set_text(json, "version", info->version);
    json_object_set_new(json, "cores", json_integer(info->cores));
    json_object_set_new(json, "memory_total_bytes", json_integer(info->mem_total_bytes));
    json_object_set_new(json, "memory_used_bytes", json_integer(info->mem_used_bytes));
    json_object_set_new(json, "numa", numa_to_json(info->numa));
    json_object_set_new(json, "gpus_known", json_boolean(info->gpus_known));
    set_text(json, "gpu_text", info->gpu_text);
    json_object_set_new(json, "gpus_simulated", json_boolean(info->gpus_simulated));
    json_object_set_new(json, "engine_ok", json_boolean(info->engine_ok));
    set_text(json, "engine_text", info->engine_text);
    json_object_set_new(json, "vm_ok", json_boolean(info->vm_ok));
    set_text(json, "vm_text", info->vm_text);
    if (info->vfio)
        json_object_set(json, "vfio", info->vfio);
    json_object_set_new(json, "disk_ok", json_boolean(info->disk_ok));
    set_text(json, "disk_text", info->disk_text);
    return json;
}

json_t *node_info_to_json(const struct node_info *info) {
    json_t *json = node_info_head_to_json(info), *gpus = json_array(), *guests = json_array();

    for (guint i = 0; i < info->gpus->len; i++)
        json_array_append_new(gpus, gpu_to_json(info->gpus->pdata[i]));
    json_object_set_new(json, "gpus", gpus);
    for (guint i = 0; i < info->guests->len; i++)
        json_array_append_new(guests, guest_to_json(info->guests->pdata[i]));
    json_object_set_new(json, "guests", guests);
    return json;
}

/* The card at that position of the told list, which is not in the order of ours for sure. */
static struct gpu *told_gpu(const struct node_info *info, const json_t *told, const char *position) {
    guint64 at;
    const json_t *card = g_ascii_string_to_unsigned(position, 10, 0, NODE_MAX_GPUS, &at, NULL)
                             ? json_array_get(json_object_get(told, "gpus"), (size_t)at)
                             : NULL;
    const char *uuid = json_string_value(json_object_get(card, "uuid"));
    struct gpu *gpu = card ? node_info_gpu_by_index(info, (int)json_integer_value(json_object_get(card, "index")))
                           : NULL;

    return gpu && g_strcmp0(gpu->uuid, uuid) == 0 ? gpu : NULL;
}

static bool take_gpu_figures(struct node_info *info, const json_t *told, const json_t *cards) {
    const char *position, *name;
    json_t *card, *value;

    if (!json_is_object(cards))
        return false;
    json_object_foreach ((json_t *)(uintptr_t)cards, position, card) {
        struct gpu *gpu = json_is_object(card) ? told_gpu(info, told, position) : NULL;

        if (!gpu)
            return false;
        json_object_foreach (card, name, value)
            if (!gpu_take_figure(gpu, name, value))
                return false;
    }
    return true;
}

bool node_info_take_figures(struct node_info *info, const json_t *told, const json_t *delta) {
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)delta, name, value) {
        if (strcmp(name, "gpus") == 0) {
            if (!take_gpu_figures(info, told, value))
                return false;
        } else if (strcmp(name, "memory_used_bytes") == 0 && json_is_integer(value) && json_integer_value(value) >= 0) {
            info->mem_used_bytes = json_integer_value(value);
        } else {
            return false;
        }
    }
    return true;
}

static void read_numa(struct json_reader *r, struct node_info *info) {
    const json_t *list = jr_array_opt(r, "numa", NODE_MAX_NUMA);
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct json_reader n = jr_init(item, "node.numa", r->error);
        int id = (int)jr_int(&n, "id", 0, TARGET_MAX_NUMBER);
        const char *cpus = jr_str(&n, "cpus", NODE_TEXT_MAX_BYTES);
        int64_t mem_bytes = jr_int(&n, "memory_bytes", 0, G_MAXINT64);

        if (cpulist_count(cpus) < 0)
            jr_fail(&n, "\"cpus\" is not a CPU list");
        if (node_info_numa(info, id))
            jr_fail(&n, "NUMA node %d is listed twice", id);
        r->failed |= n.failed;
        if (r->failed)
            return;
        g_ptr_array_add(info->numa, numa_node_new(id, cpus, mem_bytes));
    }
}

static void read_gpus(struct json_reader *r, struct node_info *info) {
    const json_t *list = jr_array_opt(r, "gpus", NODE_MAX_GPUS);
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct gpu *gpu = gpu_from_json(item, r->error);
        if (!gpu) {
            r->failed = true;
            return;
        }
        g_ptr_array_add(info->gpus, gpu);
        for (guint k = 0; k + 1 < info->gpus->len; k++) {
            const struct gpu *other = info->gpus->pdata[k];
            if (other->index == gpu->index || strcmp(other->pci, gpu->pci) == 0 ||
                (gpu->uuid[0] && strcmp(other->uuid, gpu->uuid) == 0))
                jr_fail(r, "GPU %d (%s, %s) is listed twice", gpu->index, gpu->pci, gpu->uuid);
        }
    }
}

/* What is told on is checked for the little that is shown of it: texts that are no longer than they should be. */
static void read_vfio(struct json_reader *r, struct node_info *info) {
    const json_t *list = jr_array_opt(r, "vfio", NODE_MAX_GPUS), *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct json_reader v = jr_init(item, "node.vfio", r->error);

        jr_str(&v, "owner", NODE_TEXT_MAX_BYTES);
        jr_str(&v, "state", 32);
        jr_str(&v, "step", NODE_TEXT_MAX_BYTES);
        jr_str(&v, "reason", NODE_VFIO_REASON_MAX_BYTES);
        jr_array(&v, "gpus", NODE_MAX_GPUS);
        r->failed |= !jr_done(&v);
        if (r->failed)
            return;
    }
    info->vfio = json_incref((json_t *)(uintptr_t)list);
}

static void read_guests(struct json_reader *r, struct node_info *info) {
    const json_t *list = jr_array_opt(r, "guests", NODE_MAX_TASKS);
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        struct guest *guest = r->failed ? NULL : guest_from_json(item, r->error);

        if (!guest) {
            r->failed = true;
            return;
        }
        g_ptr_array_add(info->guests, guest);
    }
}

struct node_info *node_info_from_json(const json_t *json, GError **error) {
    struct json_reader r = jr_init(json, "node", error);
    const char *name = jr_str(&r, "name", NODE_NAME_MAX_BYTES);
    struct node_info *info = node_info_new(name);

    if (!r.failed && !node_name_check(name, strlen(name), error))
        r.failed = true;
    info->boot_id = g_strdup(jr_str(&r, "boot_id", 64));
    info->version = g_strdup(jr_str_opt(&r, "version", 64, NULL));
    info->cores = (int)jr_int(&r, "cores", 0, NODE_MAX_CORES);
    info->mem_total_bytes = jr_int(&r, "memory_total_bytes", 0, G_MAXINT64);
    info->mem_used_bytes = jr_int_opt(&r, "memory_used_bytes", 0, G_MAXINT64, 0);
    read_numa(&r, info);
    read_gpus(&r, info);
    read_guests(&r, info);
    info->gpus_known = jr_bool_opt(&r, "gpus_known", false);
    info->gpu_text = g_strdup(jr_str_opt(&r, "gpu_text", NODE_TEXT_MAX_BYTES, NULL));
    info->gpus_simulated = jr_bool_opt(&r, "gpus_simulated", false);
    info->engine_ok = jr_bool_opt(&r, "engine_ok", false);
    info->vm_ok = jr_bool_opt(&r, "vm_ok", false);
    read_vfio(&r, info);
    info->vm_text = g_strdup(jr_str_opt(&r, "vm_text", NODE_TEXT_MAX_BYTES, NULL));
    info->engine_text = g_strdup(jr_str_opt(&r, "engine_text", NODE_TEXT_MAX_BYTES, NULL));
    info->disk_ok = jr_bool_opt(&r, "disk_ok", true);
    info->disk_text = g_strdup(jr_str_opt(&r, "disk_text", NODE_TEXT_MAX_BYTES, NULL));
    if (jr_done(&r))
        return info;
    node_info_free(info);
    return NULL;
}
