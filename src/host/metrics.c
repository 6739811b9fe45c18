#include "host/metrics.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fs.h"
#include "host/host_internal.h"

/* ---- the format ---- */

enum { COUNTER, GAUGE };

static void add_head(GString *text, const char *name, int type, const char *help) {
    g_string_append_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                           type == COUNTER ? "counter" : "gauge");
}

static void add_value(GString *text, double value) {
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_c(text, ' ');
    g_string_append(text, g_ascii_formatd(number, sizeof number, "%.15g", value));
    g_string_append_c(text, '\n');
}

/* `labels`: with a comma at the end each, or empty. */
static void add_sample(GString *text, const char *name, const char *labels, double value) {
    size_t len = strlen(labels);

    g_string_append(text, name);
    if (len > 0) {
        g_string_append_c(text, '{');
        g_string_append_len(text, labels, (gssize)len - 1);
        g_string_append_c(text, '}');
    }
    add_value(text, value);
}

static void add_label(GString *text, const char *name, const char *value) {
    g_autofree char *valid = g_utf8_make_valid(value, -1); /* one label that is not would cost the whole page */

    g_string_append_printf(text, "%s=\"", name);
    for (const char *at = valid; *at; at++) {
        if (*at == '\n')
            g_string_append(text, "\\n");
        else if (*at == '"' || *at == '\\')
            g_string_append_printf(text, "\\%c", *at);
        else
            g_string_append_c(text, *at);
    }
    g_string_append(text, "\",");
}

/* ---- the cards ---- */

struct row {
    const char *name;
    int type;
    const char *help;
    enum gpu_figure figure;
    double scale; /* what one of its units is of the figure's */
};

/* Our own figures, and what they are in dcgm-exporter's words. */
static const struct row gpu_rows[] = {
    {"DCGM_FI_DEV_SM_CLOCK", GAUGE, "SM clock frequency (in MHz).", GPU_CLOCK_SM, 1},
    {"DCGM_FI_DEV_MEM_CLOCK", GAUGE, "Memory clock frequency (in MHz).", GPU_CLOCK_MEM, 1},
    {"DCGM_FI_DEV_MEMORY_TEMP", GAUGE, "Memory temperature (in C).", GPU_MEM_TEMP, 1},
    {"DCGM_FI_DEV_GPU_TEMP", GAUGE, "GPU temperature (in C).", GPU_TEMP, 1},
    {"DCGM_FI_DEV_FAN_SPEED", GAUGE, "Fan speed (in %).", GPU_FAN, 1},
    {"DCGM_FI_DEV_POWER_USAGE", GAUGE, "Power draw (in W).", GPU_POWER, 1000},
    {"DCGM_FI_DEV_POWER_MGMT_LIMIT", GAUGE, "Power limit that is enforced (in W).", GPU_POWER_LIMIT, 1000},
    {"DCGM_FI_DEV_GPU_UTIL", GAUGE, "GPU utilization (in %).", GPU_UTIL, 1},
    {"DCGM_FI_DEV_MEM_COPY_UTIL", GAUGE, "Memory utilization (in %).", GPU_MEM_UTIL, 1},
    {"DCGM_FI_DEV_FB_USED", GAUGE, "Framebuffer memory used (in MiB).", GPU_MEM_USED, 1048576},
    {"DCGM_FI_DEV_FB_TOTAL", GAUGE, "Framebuffer memory (in MiB).", GPU_MEM_TOTAL, 1048576},
    {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", COUNTER, "Total number of PCIe retries.", GPU_PCIE_REPLAYS, 1},
    {"DCGM_FI_DEV_PCIE_LINK_GEN", GAUGE, "PCIe generation of the link.", GPU_PCIE_GENERATION, 1},
    {"DCGM_FI_DEV_PCIE_LINK_WIDTH", GAUGE, "PCIe lanes of the link.", GPU_PCIE_WIDTH, 1},
    {"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", COUNTER, "Total number of single-bit volatile ECC errors.", GPU_ECC_CORRECTED, 1},
    {"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", COUNTER, "Total number of double-bit volatile ECC errors.", GPU_ECC_UNCORRECTED,
     1},
    {"DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", COUNTER, "Total number of double-bit persistent ECC errors.",
     GPU_ECC_UNCORRECTED_EVER, 1},
    {"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", COUNTER, "Number of remapped rows for uncorrectable errors.",
     GPU_ROWS_UNCORRECTED, 1},
    {"DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", COUNTER, "Number of remapped rows for correctable errors.",
     GPU_ROWS_CORRECTED, 1},
    {"DCGM_FI_DEV_ROW_REMAP_PENDING", GAUGE, "Whether a row waits for a reset to be remapped.", GPU_REMAP_PENDING, 1},
    {"DCGM_FI_DEV_ROW_REMAP_FAILURE", GAUGE, "Whether remapping of rows has failed.", GPU_REMAP_FAILED, 1},
};

struct card {
    const struct cluster_node *node;
    const struct gpu *gpu;
    char *labels; /* owned */
    bool is_fresh;
};

static void card_free(struct card *card) {
    g_free(card->labels);
    g_free(card);
}

static char *card_labels(const struct cluster_node *node, const struct gpu *gpu) {
    g_autofree char *index = g_strdup_printf("%d", gpu->index);
    g_autofree char *device = g_strdup_printf("nvidia%d", (int)gpu_figure(gpu, GPU_MINOR));
    g_autofree char *pci = g_ascii_strup(gpu->pci, -1);
    g_autofree char *bus = strchr(pci, ':') == pci + 4 ? g_strconcat("0000", pci, NULL) : g_strdup(pci);
    GString *labels = g_string_new(NULL);

    add_label(labels, "gpu", index);
    add_label(labels, "UUID", gpu->uuid);
    add_label(labels, "pci_bus_id", bus);
    add_label(labels, "device", gpu_has(gpu, GPU_MINOR) ? device : "");
    add_label(labels, "modelName", gpu->name);
    add_label(labels, "Hostname", node->info->name);
    return g_string_free(labels, FALSE);
}

static GPtrArray *collect_cards(const GPtrArray *nodes, const struct cluster *cluster, struct core_time now) {
    GPtrArray *cards = g_ptr_array_new_with_free_func((GDestroyNotify)card_free);

    for (guint i = 0; i < nodes->len; i++) {
        const struct cluster_node *node = nodes->pdata[i];
        bool is_fresh = cluster_is_online(cluster, node, now);

        for (guint k = 0; k < node->info->gpus->len; k++) {
            struct card *card = g_new0(struct card, 1);
            *card = (struct card){.node = node, .gpu = node->info->gpus->pdata[k], .is_fresh = is_fresh};
            card->labels = card_labels(node, card->gpu);
            g_ptr_array_add(cards, card);
        }
    }
    return cards;
}

static void add_figures(GString *text, const GPtrArray *cards) {
    for (const struct row *row = gpu_rows; row < gpu_rows + G_N_ELEMENTS(gpu_rows); row++) {
        add_head(text, row->name, row->type, row->help);
        for (guint i = 0; i < cards->len; i++) {
            const struct card *card = cards->pdata[i];
            if (card->is_fresh && gpu_has(card->gpu, row->figure))
                add_sample(text, row->name, card->labels, (double)gpu_figure(card->gpu, row->figure) / row->scale);
        }
    }
}

/* What is computed of a card; false: not known. */
static bool free_mib(const struct gpu *gpu, struct core_time now, double *ret) {
    (void)now;
    if (!gpu_has(gpu, GPU_MEM_TOTAL) || !gpu_has(gpu, GPU_MEM_USED))
        return false;
    *ret = (double)(gpu_figure(gpu, GPU_MEM_TOTAL) - gpu_figure(gpu, GPU_MEM_USED)) / 1048576;
    return true;
}

static bool last_xid(const struct gpu *gpu, struct core_time now, double *ret) {
    (void)now;
    *ret = gpu->n_xids > 0 ? gpu->xids[0].code : 0;
    return gpu->n_xids > 0 || gpu->condition == GPU_CONDITION_OK || gpu->condition == GPU_CONDITION_FOREIGN;
}

static bool idle_seconds(const struct gpu *gpu, struct core_time now, double *ret) {
    *ret = (double)MAX(0, now.wall_ms - gpu_figure(gpu, GPU_IDLE_SINCE)) / 1000;
    return gpu_has(gpu, GPU_IDLE_SINCE);
}

static const struct {
    const char *name, *help;
    bool (*compute)(const struct gpu *gpu, struct core_time now, double *ret);
} computed_rows[] = {
    {"DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", free_mib},
    {"DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.", last_xid},
    {"kohakuriver_gpu_idle_seconds", "For how long the utilisation has been next to nothing; absent while busy.",
     idle_seconds},
};

static void add_computed(GString *text, const GPtrArray *cards, struct core_time now) {
    for (size_t r = 0; r < G_N_ELEMENTS(computed_rows); r++) {
        add_head(text, computed_rows[r].name, GAUGE, computed_rows[r].help);
        for (guint i = 0; i < cards->len; i++) {
            const struct card *card = cards->pdata[i];
            double value;
            if (card->is_fresh && computed_rows[r].compute(card->gpu, now, &value))
                add_sample(text, computed_rows[r].name, card->labels, value);
        }
    }
}

/* ---- what the cards are to the cluster: one sample each, with the word as a label ---- */

static void word_of_state(struct controller *c, const struct card *card, struct core_time now, GString *labels) {
    add_label(labels, "state", gpu_state_to_str(controller_gpu(c, card->node, card->gpu, now)->state));
}

static void word_of_health(struct controller *c, const struct card *card, struct core_time now, GString *labels) {
    if (card->is_fresh)
        add_label(labels, "health", gpu_health_to_str(controller_gpu(c, card->node, card->gpu, now)->health));
}

static void word_of_holder(struct controller *c, const struct card *card, struct core_time now, GString *labels) {
    const struct ledger_entry *entry = card->gpu->uuid[0] ? ledger_holder(controller_ledger(c), card->gpu->uuid) : NULL;
    const struct task *task = entry && !entry->is_orphan ? controller_task(c, entry->lease.task_id) : NULL;
    g_autofree char *id = entry ? g_strdup_printf("%u", entry->lease.task_id) : NULL;

    (void)now;
    if (!entry)
        return;
    add_label(labels, "kind", entry->is_orphan ? "orphan" : "task");
    add_label(labels, "task", id);
    add_label(labels, "owner", task && task->spec->owner ? task->spec->owner : "");
    add_label(labels, "name", task && task->spec->name ? task->spec->name : entry->label ? entry->label : "");
}

static const struct {
    const char *name, *help;
    void (*word)(struct controller *c, const struct card *card, struct core_time now, GString *labels);
} word_rows[] = {
    {"kohakuriver_gpu_state", "What the card is to the cluster: free, in_use, unknown and so on.", word_of_state},
    {"kohakuriver_gpu_health", "Whether the card can be trusted: ok, suspect, quarantine or dead.", word_of_health},
    {"kohakuriver_gpu_holder_info", "Who holds the card; absent when nobody does.", word_of_holder},
};

static void add_words(GString *text, struct controller *c, const GPtrArray *cards, struct core_time now) {
    for (size_t r = 0; r < G_N_ELEMENTS(word_rows); r++) {
        add_head(text, word_rows[r].name, GAUGE, word_rows[r].help);
        for (guint i = 0; i < cards->len; i++) {
            const struct card *card = cards->pdata[i];
            g_autoptr(GString) labels = g_string_new(card->labels);
            size_t bare = labels->len;

            word_rows[r].word(c, card, now, labels);
            if (labels->len > bare)
                add_sample(text, word_rows[r].name, labels->str, 1);
        }
    }
}

/* ---- nodes ---- */

struct node_view {
    const struct cluster_node *node;
    struct controller *c;
    struct core_time now;
    bool is_online;
};

static bool node_online(const struct node_view *v, double *ret) {
    *ret = v->is_online;
    return true;
}

static bool node_last_seen(const struct node_view *v, double *ret) {
    *ret = (double)(v->now.mono_ms - v->node->heard_mono_ms) / 1000;
    return v->node->heard_mono_ms > 0;
}

static bool node_engine(const struct node_view *v, double *ret) {
    *ret = v->node->info->engine_ok;
    return v->is_online;
}

static bool node_disk(const struct node_view *v, double *ret) {
    *ret = v->node->info->disk_ok;
    return v->is_online;
}

static bool node_cores(const struct node_view *v, double *ret) {
    *ret = v->node->info->cores;
    return v->is_online;
}

static bool node_cores_reserved(const struct node_view *v, double *ret) {
    *ret = ledger_cores_reserved(controller_ledger(v->c), v->node->info->name, TARGET_NO_NUMA);
    return true;
}

static bool node_memory(const struct node_view *v, double *ret) {
    *ret = (double)v->node->info->mem_total_bytes;
    return v->is_online;
}

static bool node_memory_used(const struct node_view *v, double *ret) {
    *ret = (double)v->node->info->mem_used_bytes;
    return v->is_online;
}

static bool node_memory_reserved(const struct node_view *v, double *ret) {
    *ret = (double)ledger_mem_reserved(controller_ledger(v->c), v->node->info->name);
    return true;
}

static const struct {
    const char *name, *help;
    bool (*compute)(const struct node_view *view, double *ret);
} node_rows[] = {
    {"kohakuriver_node_online", "Whether the node has said something of late.", node_online},
    {"kohakuriver_node_last_seen_seconds", "Since the node was last heard; absent when not since the host started.",
     node_last_seen},
    {"kohakuriver_node_engine_ok", "Whether the node can run containers.", node_engine},
    {"kohakuriver_node_disk_ok", "Whether the node can write its state.", node_disk},
    {"kohakuriver_node_cores", "CPU cores of the node.", node_cores},
    {"kohakuriver_node_cores_reserved", "CPU cores that leases hold.", node_cores_reserved},
    {"kohakuriver_node_memory_bytes", "Memory of the node.", node_memory},
    {"kohakuriver_node_memory_used_bytes", "Memory in use.", node_memory_used},
    {"kohakuriver_node_memory_reserved_bytes", "Memory that leases hold.", node_memory_reserved},
};

static void add_nodes(GString *text, struct controller *c, const GPtrArray *nodes, struct core_time now) {
    for (size_t r = 0; r < G_N_ELEMENTS(node_rows); r++) {
        add_head(text, node_rows[r].name, GAUGE, node_rows[r].help);
        for (guint i = 0; i < nodes->len; i++) {
            const struct cluster_node *node = nodes->pdata[i];
            struct node_view view = {node, c, now, cluster_is_online(controller_cluster(c), node, now)};
            g_autoptr(GString) labels = g_string_new(NULL);
            double value;

            add_label(labels, "Hostname", node->info->name);
            if (node_rows[r].compute(&view, &value))
                add_sample(text, node_rows[r].name, labels->str, value);
        }
    }
}

/* ---- tasks and leases ---- */

struct counts {
    int tasks[TASK_STATE_COUNT_], lost, leases[2]; /* of tasks, of orphans */
};

static void count_entry(struct counts *counts, struct controller *c, const struct ledger_entry *entry,
                        struct core_time now) {
    const struct task *task = entry->is_orphan ? NULL : controller_task(c, entry->lease.task_id);

    counts->leases[entry->is_orphan]++;
    if (task && strcmp(controller_shown_state(c, task, now), "lost") == 0)
        counts->lost++;
    else if (task)
        counts->tasks[task->state]++;
}

static void add_counted(GString *text, const char *name, const char *label, const char *word, int n) {
    g_autoptr(GString) labels = g_string_new(NULL);

    add_label(labels, label, word);
    add_sample(text, name, labels->str, n);
}

static void add_leases(GString *text, struct controller *c, const GPtrArray *nodes, struct core_time now) {
    struct counts counts = {0};

    for (guint i = 0; i < nodes->len; i++) {
        const struct cluster_node *node = nodes->pdata[i];
        const GPtrArray *entries = ledger_of_node(controller_ledger(c), node->info->name);
        for (guint k = 0; entries && k < entries->len; k++)
            count_entry(&counts, c, entries->pdata[k], now);
    }
    add_head(text, "kohakuriver_tasks", GAUGE,
             "Tasks that hold a lease, also ended ones that wait for proof, by state.");
    for (int state = 1; state < TASK_STATE_COUNT_; state++)
        add_counted(text, "kohakuriver_tasks", "state", task_state_to_str(state), counts.tasks[state]);
    add_counted(text, "kohakuriver_tasks", "state", "lost", counts.lost);
    add_head(text, "kohakuriver_leases", GAUGE, "Leases, of tasks and of what has no task any more.");
    add_counted(text, "kohakuriver_leases", "kind", "task", counts.leases[0]);
    add_counted(text, "kohakuriver_leases", "kind", "orphan", counts.leases[1]);
}

void metrics_add_cluster(GString *text, struct controller *c, struct core_time now) {
    g_autoptr(GPtrArray) nodes = cluster_nodes(controller_cluster(c));
    g_autoptr(GPtrArray) cards = collect_cards(nodes, controller_cluster(c), now);

    add_figures(text, cards);
    add_computed(text, cards, now);
    add_words(text, c, cards, now);
    add_nodes(text, c, nodes, now);
    add_leases(text, c, nodes, now);
    add_head(text, "kohakuriver_storage_ok", GAUGE, "Whether the host can record; 0: its disk is full or broken.");
    add_sample(text, "kohakuriver_storage_ok", "", controller_storage_problem(c) == NULL);
}

/* ---- this process ---- */

static double resident_bytes(void) {
    g_autofree char *text = NULL;
    const char *second;

    if (!fs_read_file("/proc/self/statm", 256, &text, NULL, NULL) || !(second = strchr(text, ' ')))
        return 0;
    return (double)g_ascii_strtoll(second + 1, NULL, 10) * (double)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void) {
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double open_files(void) {
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    int n = 0;

    while (dir && g_dir_read_name(dir))
        n++;
    return n > 0 ? n - 1 : 0; /* one is the folder itself */
}

static const struct {
    const char *name;
    int type;
    const char *help;
    double (*read)(void);
} process_rows[] = {
    {"process_resident_memory_bytes", GAUGE, "Resident memory of the host.", resident_bytes},
    {"process_cpu_seconds_total", COUNTER, "User and system CPU time of the host.", cpu_seconds},
    {"process_open_fds", GAUGE, "Open file descriptors of the host.", open_files},
};

void metrics_add_process(GString *text) {
    for (size_t i = 0; i < G_N_ELEMENTS(process_rows); i++) {
        add_head(text, process_rows[i].name, process_rows[i].type, process_rows[i].help);
        add_sample(text, process_rows[i].name, "", process_rows[i].read());
    }
    add_head(text, "kohakuriver_build_info", GAUGE, "The host's version.");
    add_sample(text, "kohakuriver_build_info", "version=\"" KR_VERSION "\",", 1);
}

void api_metrics(struct http_exchange *x, void *app) {
    const struct host *host = app;
    g_autoptr(GString) text = g_string_sized_new(64 * 1024);

    metrics_add_cluster(text, host->controller, host_now());
    metrics_add_process(text);
    http_reply_bytes(x, 200, "text/plain; version=0.0.4; charset=utf-8", text->str, text->len);
}
