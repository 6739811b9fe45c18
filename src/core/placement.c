#include "core/placement.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/units.h"

static bool will_do(const struct placement *p, enum gpu_state state) {
    return state == GPU_STATE_FREE || (state == GPU_STATE_BARE && p->is_machine);
}

static bool is_free(const struct placement *p, const struct cluster_node *node, const struct gpu *gpu) {
    return will_do(p, pool_gpu_state(p->pool, node, gpu, NULL, p->now, NULL));
}

static size_t count_free(const struct placement *p, const struct cluster_node *node) {
    size_t n = 0;

    for (guint i = 0; i < node->info->gpus->len; i++)
        n += is_free(p, node, node->info->gpus->pdata[i]);
    return n;
}

/* "free GPUs on mynode: 1, 2, 3" */
static void append_free(GString *text, const struct placement *p, const struct cluster_node *node) {
    const struct node_info *info = node->info;
    const char *comma = "";

    if (count_free(p, node) == 0) {
        g_string_append_printf(text, "no GPU of %s is free", info->name);
        return;
    }
    g_string_append_printf(text, "free GPUs on %s: ", info->name);
    for (guint i = 0; i < info->gpus->len; i++) {
        const struct gpu *gpu = info->gpus->pdata[i];
        if (is_free(p, node, gpu)) {
            g_string_append_printf(text, "%s%d", comma, gpu->index);
            comma = ", ";
        }
    }
}

/* What would have fitted: this node's free cards, and when they are too few, other nodes that have enough. */
static char *what_fits(const struct placement *p, const struct cluster_node *node, size_t wanted) {
    g_autoptr(GPtrArray) nodes = NULL;
    GString *text = g_string_new(NULL);

    append_free(text, p, node);
    if (count_free(p, node) >= wanted)
        return g_string_free(text, FALSE);
    nodes = cluster_nodes(p->pool->cluster);
    for (guint i = 0; i < nodes->len && text->len < 300; i++) {
        const struct cluster_node *other = nodes->pdata[i];
        size_t n = count_free(p, other);
        if (other != node && n >= wanted)
            g_string_append_printf(text, "; %s has %zu free", other->info->name, n);
    }
    return g_string_free(text, FALSE);
}

static char *describe_holder(const struct placement *p, const struct ledger_entry *entry) {
    char span[UNITS_TEXT_BYTES], when[CLOCK_TEXT_BYTES];
    const struct lease *lease = &entry->lease;

    if (lease->epoch > p->batch_epoch && !entry->is_orphan)
        return g_strdup("asked for by another target of this submission");
    return g_strdup_printf("held by %stask %u (%s) since %s (%s)", entry->is_orphan ? "orphaned " : "", lease->task_id,
                           entry->label ? entry->label : "unnamed", clock_utc_to_str(lease->granted_ms, when),
                           units_span_to_str(p->now.wall_ms - lease->granted_ms, span));
}

static bool check_gpu(const struct placement *p, const struct cluster_node *node, const struct gpu *gpu, size_t wanted,
                      GError **error) {
    const struct ledger_entry *holder = ledger_holder(p->pool->ledger, gpu->uuid);
    g_autofree char *reason = NULL, *fits = NULL, *why = NULL;
    enum gpu_state state = pool_gpu_state(p->pool, node, gpu, NULL, p->now, &reason);

    if (will_do(p, state))
        return true;
    fits = what_fits(p, node, wanted);
    if (holder)
        why = describe_holder(p, holder);
    else
        why = g_strdup_printf("not available (%s): %s", gpu_state_to_str(state), reason);
    return kr_fail(error, REFUSED, "GPU %d of %s is %s; %s", gpu->index, node->info->name, why, fits);
}

static char *list_indices(const struct node_info *info) {
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < info->gpus->len; i++)
        g_string_append_printf(text, "%s%d", i ? ", " : "", ((const struct gpu *)info->gpus->pdata[i])->index);
    return g_string_free(text, FALSE);
}

static bool add_gpu(const struct placement *p, const struct cluster_node *node, const struct target *target, int index,
                    struct lease *lease, GPtrArray *notes, GError **error) {
    const struct gpu *gpu = node_info_gpu_by_index(node->info, index);
    g_autofree char *valid = list_indices(node->info);

    if (!gpu)
        return kr_fail(error, BAD_REQUEST, "%s has no GPU %d; its GPUs are: %s", node->info->name, index,
                       valid[0] ? valid : "none");
    if (!check_gpu(p, node, gpu, target->n_gpus, error))
        return false;
    if (target->numa != TARGET_NO_NUMA && gpu_has(gpu, GPU_NUMA) && gpu_figure(gpu, GPU_NUMA) != target->numa)
        g_ptr_array_add(notes, g_strdup_printf("GPU %d of %s sits on NUMA node %d, the task is bound to %d", index,
                                               node->info->name, (int)gpu_figure(gpu, GPU_NUMA), target->numa));
    lease->gpus[lease->n_gpus].index = gpu->index;
    g_strlcpy(lease->gpus[lease->n_gpus].uuid, gpu->uuid, sizeof lease->gpus[0].uuid);
    lease->n_gpus++;
    return true;
}

static bool is_leased(const struct lease *lease, const struct gpu *gpu) {
    for (size_t i = 0; i < lease->n_gpus; i++)
        if (lease->gpus[i].index == gpu->index)
            return true;
    return false;
}

/* One that the lease has and that is in the same IOMMU group; NULL: none. */
static const struct gpu *mate_of(const struct node_info *info, const struct lease *lease, const struct gpu *gpu) {
    for (size_t i = 0; i < lease->n_gpus; i++) {
        const struct gpu *other = node_info_gpu_by_index(info, lease->gpus[i].index);

        if (gpu_has(gpu, GPU_IOMMU_GROUP) && gpu_has(other, GPU_IOMMU_GROUP) &&
            gpu_figure(gpu, GPU_IOMMU_GROUP) == gpu_figure(other, GPU_IOMMU_GROUP))
            return other;
    }
    return NULL;
}

/* A group goes to a machine as a whole: further cards in it are leased too, where that is allowed and they can be had (L69). */
static bool add_group(const struct placement *p, const struct cluster_node *node, const struct target *target,
                      const struct vm_spec *vm, struct lease *lease, GPtrArray *notes, GError **error) {
    const struct node_info *info = node->info;

    for (guint i = 0; i < info->gpus->len; i++) {
        const struct gpu *gpu = info->gpus->pdata[i], *mate = mate_of(info, lease, gpu);

        if (!mate || is_leased(lease, gpu) || gpu->condition == GPU_CONDITION_REMOVED)
            continue;
        if (!vm->takes_group)
            return kr_fail(
                error, REFUSED,
                "GPU %d of %s shares its IOMMU group %d with GPU %d: name both, or allow that it is taken along "
                "(--with-group)",
                mate->index, info->name, (int)gpu_figure(gpu, GPU_IOMMU_GROUP), gpu->index);
        if (lease->n_gpus == TARGET_MAX_GPUS)
            return kr_fail(error, REFUSED, "the IOMMU groups hold more GPUs than a task may have, %d", TARGET_MAX_GPUS);
        if (!add_gpu(p, node, target, gpu->index, lease, notes, error)) {
            g_prefix_error(error, "GPU %d of %s shares its IOMMU group with GPU %d: ", mate->index, info->name,
                           gpu->index);
            return false;
        }
        g_ptr_array_add(notes, g_strdup_printf("GPU %d of %s goes along: it is in the IOMMU group of GPU %d",
                                               gpu->index, info->name, mate->index));
    }
    return true;
}

static bool check_numa(const struct node_info *info, int numa, GError **error) {
    GString *valid;

    if (numa == TARGET_NO_NUMA || node_info_numa(info, numa))
        return true;
    valid = g_string_new(NULL);
    for (guint i = 0; i < info->numa->len; i++)
        g_string_append_printf(valid, "%s%d", i ? ", " : "", ((const struct numa_node *)info->numa->pdata[i])->id);
    kr_fail(error, BAD_REQUEST, "%s has no NUMA node %d; its NUMA nodes are: %s", info->name, numa,
            valid->len ? valid->str : "not known");
    g_string_free(valid, TRUE);
    return false;
}

static bool check_cores(const struct placement *p, const struct node_info *info, int cores, int numa, GError **error) {
    const struct numa_node *numa_node = numa == TARGET_NO_NUMA ? NULL : node_info_numa(info, numa);
    int total = numa_node ? numa_node->cores : info->cores;
    int reserved = ledger_cores_reserved(p->pool->ledger, info->name, numa_node ? numa : TARGET_NO_NUMA);
    g_autofree char *where = numa_node ? g_strdup_printf("NUMA node %d of %s", numa, info->name) : g_strdup(info->name);

    if (cores > total)
        return kr_fail(error, BAD_REQUEST, "%d cores are asked for, %s has %d", cores, where, total);
    if (cores > 0 && cores > total - reserved)
        return kr_fail(error, REFUSED, "%d cores are asked for, %d of the %d of %s are free", cores,
                       MAX(total - reserved, 0), total, where);
    return true;
}

static bool check_memory(const struct placement *p, const struct node_info *info, int64_t bytes, GError **error) {
    int64_t left = info->mem_total_bytes - ledger_mem_reserved(p->pool->ledger, info->name);
    char asked[UNITS_TEXT_BYTES], total[UNITS_TEXT_BYTES], rest[UNITS_TEXT_BYTES];

    if (bytes == 0 || bytes <= left)
        return true;
    units_bytes_to_str(bytes, asked);
    units_bytes_to_str(info->mem_total_bytes, total);
    units_bytes_to_str(MAX(left, 0), rest);
    if (bytes > info->mem_total_bytes)
        return kr_fail(error, BAD_REQUEST, "%s of memory are asked for, %s has %s", asked, info->name, total);
    return kr_fail(error, REFUSED, "%s of memory are asked for, %s of the %s of %s are not reserved", asked, rest,
                   total, info->name);
}

static bool check_online(const struct placement *p, const struct cluster_node *node, GError **error) {
    char span[UNITS_TEXT_BYTES];

    if (cluster_is_online(p->pool->cluster, node, p->now) || fault_mutant("R3-unknown-is-free"))
        return true;
    if (node->heard_mono_ms == 0)
        return kr_fail(error, REFUSED, "node %s is offline: it has not connected since the host started",
                       node->info->name);
    return kr_fail(error, REFUSED, "node %s is offline: silent for %s", node->info->name,
                   units_span_to_str(p->now.mono_ms - node->heard_mono_ms, span));
}

static bool check_mark(const struct placement *p, const struct node_info *info, GError **error) {
    const struct mark *mark = pool_mark_of_node(p->pool, info->name);
    char when[CLOCK_TEXT_BYTES];

    if (!mark)
        return true;
    return kr_fail(error, REFUSED, "node %s is %s since %s by %s%s%s: it gets no new tasks until `node uncordon %s`",
                   info->name, mark->is_drain ? "drained" : "cordoned", clock_utc_to_str(mark->since_ms, when),
                   mark->who, mark->reason[0] ? ", reason: " : "", mark->reason, info->name);
}

static bool check_engine(const struct node_info *info, const struct task_spec *spec, GError **error) {
    if (spec->vm && !info->vm_ok)
        return kr_fail(error, REFUSED, "%s cannot run machines: %s", info->name,
                       info->vm_text ? info->vm_text : "its runner does not say that it can");
    if (!spec->vm && !info->engine_ok)
        return kr_fail(error, REFUSED, "the container engine of %s cannot be used: %s", info->name,
                       info->engine_text ? info->engine_text : "it does not answer");
    return true;
}

static bool check_node(const struct placement *p, const struct cluster_node *node, const struct task_spec *spec,
                       GError **error) {
    const struct node_info *info = node->info;
    const GPtrArray *leases = ledger_of_node(p->pool->ledger, info->name);

    if (!check_online(p, node, error) || !check_mark(p, info, error))
        return false;
    if (leases && leases->len >= NODE_MAX_TASKS)
        return kr_fail(error, REFUSED, "%s has %u tasks already, the most that a node may have", info->name,
                       leases->len);
    if (!check_engine(info, spec, error))
        return false;
    if (!info->disk_ok)
        return kr_fail(error, REFUSED, "node %s cannot record a lease: %s", info->name,
                       info->disk_text ? info->disk_text : "its state folder is not writable");
    return true;
}

/* A node that cannot be used at all: who holds what is asked for there is said too (R8). */
static void add_holders(const struct placement *p, const struct node_info *info, const struct target *target,
                        GError **error) {
    for (size_t i = 0; error && *error && i < target->n_gpus; i++) {
        const struct gpu *gpu = node_info_gpu_by_index(info, target->gpus[i]);
        const struct ledger_entry *holder = gpu ? ledger_holder(p->pool->ledger, gpu->uuid) : NULL;
        g_autofree char *why = holder ? describe_holder(p, holder) : NULL;
        g_autofree char *before = why ? (*error)->message : NULL;

        if (why)
            (*error)->message = g_strdup_printf("%s; GPU %d of it is %s", before, target->gpus[i], why);
    }
}

static bool place_on(const struct placement *p, const struct cluster_node *node, const struct target *target,
                     const struct task_spec *spec, struct lease *lease, GPtrArray *notes, GError **error) {
    const struct node_info *info = node->info;

    if (!check_node(p, node, spec, error)) {
        add_holders(p, info, target, error);
        return false;
    }
    if (!check_numa(info, target->numa, error))
        return false;
    if (target->n_gpus > 0 && !info->gpus_known)
        return kr_fail(error, REFUSED, "%s reports no GPU inventory, so none of its GPUs can be granted: %s",
                       info->name, info->gpu_text ? info->gpu_text : "no reason given");
    for (size_t i = 0; i < target->n_gpus; i++)
        if (!add_gpu(p, node, target, target->gpus[i], lease, notes, error))
            return false;
    if (spec->vm && !add_group(p, node, target, spec->vm, lease, notes, error))
        return false;
    return check_cores(p, info, spec->cores, target->numa, error) &&
           check_cores(p, info, spec->cores, TARGET_NO_NUMA, error) && check_memory(p, info, spec->mem_bytes, error);
}

/* The node with the most free cores, of those where the request fits. */
static const struct cluster_node *choose_node(const struct placement *p, const struct task_spec *spec, GError **error) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(p->pool->cluster);
    const struct cluster_node *best = NULL;
    GString *reasons = g_string_new(NULL);
    int best_free = 0;

    for (guint i = 0; i < nodes->len; i++) {
        const struct cluster_node *node = nodes->pdata[i];
        int left = node->info->cores - ledger_cores_reserved(p->pool->ledger, node->info->name, TARGET_NO_NUMA);
        g_autoptr(GError) why = NULL;

        if (check_node(p, node, spec, &why) && check_cores(p, node->info, spec->cores, TARGET_NO_NUMA, &why) &&
            check_memory(p, node->info, spec->mem_bytes, &why)) {
            if (!best || left > best_free) {
                best = node;
                best_free = left;
            }
        } else if (reasons->len < 400) {
            g_string_append_printf(reasons, "%s%s", reasons->len ? "; " : "", why->message);
        }
    }
    if (!best)
        kr_fail(error, REFUSED, "no node fits: %s", reasons->len ? reasons->str : "no node has joined yet");
    g_string_free(reasons, TRUE);
    return best;
}

bool placement_resolve(const struct placement *p, const struct target *target, const struct task_spec *spec,
                       struct lease *ret_lease, GPtrArray *notes, GError **error) {
    struct target any = {.numa = TARGET_NO_NUMA};
    struct lease lease = {.cores = spec->cores, .mem_bytes = spec->mem_bytes};
    const struct cluster_node *node;
    g_autofree char *names = NULL;

    node = target ? cluster_find(p->pool->cluster, target->node) : choose_node(p, spec, error);
    if (!node && target) {
        names = cluster_names(p->pool->cluster);
        return kr_fail(error, BAD_REQUEST, "there is no node \"%s\"; the nodes are: %s", target->node,
                       names[0] ? names : "none has joined yet");
    }
    if (!node || !place_on(p, node, target ? target : &any, spec, &lease, notes, error))
        return false;
    g_strlcpy(lease.node, node->info->name, sizeof lease.node);
    g_strlcpy(lease.boot_id, node->info->boot_id ? node->info->boot_id : "", sizeof lease.boot_id);
    lease.numa = target ? target->numa : TARGET_NO_NUMA;
    *ret_lease = lease;
    return true;
}
