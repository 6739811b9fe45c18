/* From a lease and a task's specification to a container: pure but for the look at the paths of mounts. */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "runner/executor_internal.h"
#include "runner/node_facts.h"

static const char *keep(struct container_plan *plan, char *text) {
    g_ptr_array_add(plan->strings, text);
    return text;
}

static char *const *keep_strv(struct container_plan *plan, GStrvBuilder *builder) {
    char **strv = g_strv_builder_end(builder);

    for (char **at = strv; *at; at++)
        keep(plan, *at);
    return (char *const *)keep(plan, (char *)strv);
}

char *container_gpus_to_label(const struct lease *lease) {
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < lease->n_gpus; i++)
        g_string_append_printf(text, "%s%d=%s", i ? "," : "", lease->gpus[i].index, lease->gpus[i].uuid);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

bool container_gpus_from_label(const char *label, struct lease *lease) {
    g_auto(GStrv) items = label[0] ? g_strsplit(label, ",", -1) : g_new0(char *, 1);

    lease->n_gpus = 0;
    for (char **item = items; *item; item++) {
        struct lease_gpu *gpu = &lease->gpus[lease->n_gpus];
        char *end;
        gint64 index = g_ascii_strtoll(*item, &end, 10);

        if (lease->n_gpus == TARGET_MAX_GPUS || end == *item || *end != '=' || end[1] == '\0' || index < 0 ||
            index > TARGET_MAX_NUMBER || strlen(end + 1) > GPU_UUID_MAX_BYTES || lease_has_gpu(lease, end + 1))
            return false;
        gpu->index = (int)index;
        g_strlcpy(gpu->uuid, end + 1, sizeof gpu->uuid);
        lease->n_gpus++;
    }
    return true;
}

static char *const *make_labels(struct container_plan *plan, const struct execution *ex) {
    const struct executor *x = ex->executor;
    const struct lease *lease = &ex->file.lease;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autofree char *gpus = container_gpus_to_label(lease);
    g_autofree char *cluster = g_strconcat(ENGINE_LABEL_CLUSTER "=", x->cluster_id, NULL);
    g_autofree char *node = g_strconcat(ENGINE_LABEL_NODE "=", x->config.node, NULL);
    g_autofree char *task = g_strdup_printf(ENGINE_LABEL_TASK "=%u", lease->task_id);
    g_autofree char *epoch = g_strdup_printf(ENGINE_LABEL_EPOCH "=%" G_GINT64_FORMAT, lease->epoch);
    g_autofree char *gpu_label = g_strconcat(ENGINE_LABEL_GPUS "=", gpus, NULL);

    g_strv_builder_add_many(builder, cluster, node, task, epoch, gpu_label, NULL);
    return keep_strv(plan, builder);
}

/* The task's own environment first; what the lease says about devices cannot be overridden (L51, L53). Where the engine's
 * hook is asked for cards it sets NVIDIA_VISIBLE_DEVICES itself. */
static char *const *make_env(struct container_plan *plan, const struct execution *ex, bool has_request) {
    const struct lease *lease = &ex->file.lease;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autofree char *task = g_strdup_printf("KOHAKURIVER_TASK_ID=%u", lease->task_id);

    for (char **env = ex->file.spec->env; env && *env; env++)
        g_strv_builder_add(builder, *env);
    g_strv_builder_add(builder, task);
    g_strv_builder_add(builder, "CUDA_DEVICE_ORDER=PCI_BUS_ID");
    if (!has_request || ex->executor->config.injection == ENGINE_INJECTION_CDI)
        g_strv_builder_add(builder, "NVIDIA_VISIBLE_DEVICES=void");
    return keep_strv(plan, builder);
}

/* ---- cards ---- */

char **container_nodes_of(const struct execution *ex, size_t i) {
    const struct executor_gpus *gpus = &ex->executor->gpus;

    return gpus->nodes_of ? gpus->nodes_of(gpus->user, ex->file.lease.gpus[i].uuid) : NULL;
}

static void add_group(struct container_plan *plan, gid_t group) {
    for (guint i = 0; i < plan->groups->len; i++)
        if (g_array_index(plan->groups, gid_t, i) == group)
            return;
    if (group != 0)
        g_array_append_val(plan->groups, group);
}

/* Cards may share a node. */
static bool add_device(struct container_plan *plan, const struct execution *ex, const char *path, GError **error) {
    struct engine_device device;
    struct stat st;

    for (guint i = 0; i < plan->devices->len; i++)
        if (strcmp(g_array_index(plan->devices, struct engine_device, i).target, path) == 0)
            return true;
    device.source = keep(plan, g_build_filename(ex->executor->dev_root, path, NULL));
    device.target = keep(plan, g_strdup(path));
    if (stat(device.source, &st) < 0 || !S_ISCHR(st.st_mode))
        return kr_fail(error, REFUSED, "%s on node %s is no device node that a container could be given", path,
                       ex->executor->config.node);
    add_group(plan, st.st_gid);
    g_array_append_val(plan->devices, device);
    return true;
}

/* The i-th card of the lease: a name for the engine's request, or nodes. */
static bool add_gpu(struct container_plan *plan, const struct execution *ex, size_t i, GStrvBuilder *uuids,
                    GError **error) {
    const char *uuid = ex->file.lease.gpus[i].uuid;
    g_auto(GStrv) nodes = container_nodes_of(ex, i);

    if (!nodes) {
        g_strv_builder_add(uuids, uuid);
        return true;
    }
    if (!nodes[0])
        return kr_fail(error, REFUSED, "the device nodes of GPU %s of node %s are not known", uuid,
                       ex->executor->config.node);
    for (char **path = nodes; *path; path++)
        if (!add_device(plan, ex, *path, error))
            return false;
    return true;
}

static bool make_gpus(struct container_plan *plan, const struct execution *ex, GError **error) {
    g_autoptr(GStrvBuilder) uuids = g_strv_builder_new();

    for (size_t i = 0; i < ex->file.lease.n_gpus; i++)
        if (ex->file.spec->vm) /* whole cards, whoever made them: make_machine says where they are */
            g_strv_builder_add(uuids, ex->file.lease.gpus[i].uuid);
        else if (!add_gpu(plan, ex, i, uuids, error))
            return false;
    plan->config.gpu_uuids = keep_strv(plan, uuids);
    plan->config.devices = (const struct engine_device *)(void *)plan->devices->data;
    plan->config.n_devices = plan->devices->len;
    plan->config.groups = (const gid_t *)(void *)plan->groups->data;
    plan->config.n_groups = plan->groups->len;
    plan->config.env = make_env(plan, ex, plan->config.gpu_uuids[0] != NULL);
    return true;
}

/* ---- mounts ---- */

static bool lies_within(const char *path, const char *folder) {
    size_t len = strlen(folder);

    while (len > 1 && folder[len - 1] == '/')
        len--;
    return strncmp(path, folder, len) == 0 && (len == 1 || path[len] == '/' || path[len] == '\0');
}

static bool is_allowed(const struct executor *x, const char *real_path) {
    for (char **allowed = x->allowed_mounts; *allowed; allowed++) {
        char real[PATH_MAX];
        if (**allowed == '/' && realpath(*allowed, real) && lies_within(real_path, real))
            return true;
    }
    return false;
}

/* The engine is given the path without symbolic links, so that what was checked is what is mounted. */
static bool add_mount(struct container_plan *plan, const struct execution *ex, const char *text, GError **error) {
    const struct executor *x = ex->executor;
    g_auto(GStrv) part = g_strsplit(text, ":", 3);
    struct engine_mount mount;
    char real[PATH_MAX];

    if (!realpath(part[0], real))
        return kr_fail(error, REFUSED, "the mount %s: %s on node %s: %s", text, part[0], x->config.node,
                       g_strerror(errno));
    if (!is_allowed(x, real))
        return kr_fail(error, REFUSED, "the mount %s: node %s does not allow %s (its setting allowed_mounts)", text,
                       x->config.node, real);
    mount.source = keep(plan, g_strdup(real));
    mount.target = keep(plan, g_strdup(part[1]));
    mount.read_only = part[2] && strcmp(part[2], "ro") == 0;
    g_array_append_val(plan->mounts, mount);
    return true;
}

static bool make_mounts(struct container_plan *plan, const struct execution *ex, GError **error) {
    for (char **mount = ex->file.spec->mounts; mount && *mount; mount++)
        if (!add_mount(plan, ex, *mount, error))
            return false;
    plan->config.mounts = (const struct engine_mount *)(void *)plan->mounts->data;
    plan->config.n_mounts = plan->mounts->len;
    return true;
}

/* ---- the rest ---- */

static bool bind_numa(struct container_plan *plan, const struct execution *ex, GError **error) {
    int id = ex->file.lease.numa;
    const char *cpulist;
    bool has_memory;

    if (id == TARGET_NO_NUMA)
        return true;
    if (!node_facts_numa(ex->executor->facts, id, &cpulist, &has_memory))
        return kr_fail(error, REFUSED, "node %s has no NUMA node %d", ex->executor->config.node, id);
    plan->config.cpuset_cpus = keep(plan, g_strdup(cpulist));
    if (has_memory)
        plan->config.cpuset_mems = keep(plan, g_strdup_printf("%d", id));
    return true;
}

static char *const *make_pci(struct container_plan *plan, const struct execution *ex, GError **error) {
    const struct executor_gpus *gpus = &ex->executor->gpus;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (size_t i = 0; i < ex->file.lease.n_gpus; i++) {
        const char *uuid = ex->file.lease.gpus[i].uuid;
        const char *pci = gpus->pci_of ? gpus->pci_of(gpus->user, uuid) : NULL;

        if (!pci) {
            kr_fail(error, REFUSED, "where GPU %s sits in node %s is not known", uuid, ex->executor->config.node);
            return NULL;
        }
        g_strv_builder_add(builder, pci);
    }
    return keep_strv(plan, builder);
}

/* What makes it a machine; nothing to do for a container. */
static bool make_machine(struct container_plan *plan, const struct execution *ex, GError **error) {
    if (!ex->file.spec->vm)
        return true;
    plan->config.vm = ex->file.spec->vm;
    plan->config.image = ex->file.spec->vm->image;
    plan->config.network = ex->file.spec->vm->network;
    plan->config.gpu_pci = make_pci(plan, ex, error);
    return plan->config.gpu_pci != NULL;
}

static bool choose_image(struct container_plan *plan, const struct execution *ex, GError **error) {
    const struct executor *x = ex->executor;
    const char *image = ex->file.spec->image ? ex->file.spec->image : x->config.default_image;

    plan->config.image = image;
    return image[0] || ex->file.spec->vm ||
           kr_fail(error, REFUSED, "no image is named and node %s has no default_image", x->config.node);
}

bool container_plan_make(const struct execution *ex, struct container_plan *ret_plan, GError **error) {
    const struct executor *x = ex->executor;
    const struct lease *lease = &ex->file.lease;
    struct container_plan plan = {
        .strings = g_ptr_array_new_with_free_func(g_free),
        .mounts = g_array_new(FALSE, FALSE, sizeof(struct engine_mount)),
        .devices = g_array_new(FALSE, FALSE, sizeof(struct engine_device)),
        .groups = g_array_new(FALSE, FALSE, sizeof(gid_t)),
        .config = {.argv = ex->file.spec->argv,
                   .network = x->config.network,
                   .working_dir = x->config.working_dir,
                   .injection = x->config.injection,
                   .cores = lease->cores,
                   .mem_bytes = lease->mem_bytes,
                   .shm_bytes = x->config.shm_bytes,
                   .memlock = x->config.memlock,
                   .log_max_bytes = x->config.log_max_bytes},
    };

    plan.config.name = keep(&plan, execution_name(ex));
    plan.config.labels = make_labels(&plan, ex);
    if (choose_image(&plan, ex, error) && make_gpus(&plan, ex, error) && bind_numa(&plan, ex, error) &&
        make_mounts(&plan, ex, error) && make_machine(&plan, ex, error)) {
        *ret_plan = plan;
        return true;
    }
    container_plan_clear(&plan);
    return false;
}

void container_plan_clear(struct container_plan *plan) {
    g_clear_pointer(&plan->strings, g_ptr_array_unref);
    g_clear_pointer(&plan->mounts, g_array_unref);
    g_clear_pointer(&plan->devices, g_array_unref);
    g_clear_pointer(&plan->groups, g_array_unref);
}
