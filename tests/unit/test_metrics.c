/* /metrics word for word: tests/golden/metrics.txt. UPDATE_GOLDEN=1 writes it anew. */

#include "host/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

#define GOLDEN TEST_SOURCE_ROOT "/tests/golden/metrics.txt"
#define MIB (INT64_C(1) << 20)

struct bed {
    struct controller *c;
    struct core_time now;
    GQueue records;
};

static void op_record(void *env, struct record *record) { g_queue_push_tail(&((struct bed *)env)->records, record); }

static void op_send(void *env, const char *node, json_t *message) {
    (void)env;
    (void)node;
    json_decref(message);
}

static void op_changed(void *env, const struct task *task, bool is_gone) {
    (void)env;
    (void)task;
    (void)is_gone;
}

static void on_submitted(void *user, const struct submit_result *result, const GError *error) {
    (void)user;
    (void)result;
    g_assert_no_error(error);
}

static void commit(struct bed *bed) {
    struct record *record;

    while ((record = g_queue_pop_head(&bed->records)))
        controller_recorded(bed->c, record, NULL);
}

static struct gpu *add_gpu(struct node_info *info, int index, const char *name) {
    struct gpu *gpu = gpu_new();

    gpu->index = index;
    g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%s-%d", info->name, index);
    g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", 26 + index);
    g_strlcpy(gpu->name, name, sizeof gpu->name);
    gpu->condition = GPU_CONDITION_OK;
    gpu->proof = (struct proof){.facts = PROOF_CARD, .samples = 2};
    g_ptr_array_add(info->gpus, gpu);
    return gpu;
}

static void hello(struct bed *bed, struct node_info *info) {
    g_autoptr(GPtrArray) none = g_ptr_array_new();

    info->cores = 8;
    info->mem_total_bytes = 64LL << 30;
    info->gpus_known = info->engine_ok = info->disk_ok = true;
    g_assert_true(controller_hello(bed->c, info, none, 0, bed->now, NULL));
}

static void submit(struct bed *bed, const char *target, const char *name, const char *owner) {
    g_auto(GStrv) words = g_strsplit("train", " ", -1), targets = g_strsplit(target, " ", -1);
    g_autofree char *name_copy = g_strdup(name), *owner_copy = g_strdup(owner);
    struct task_spec spec = {.argv = words, .name = name_copy, .owner = owner_copy, .cores = 2};
    struct submission submission = {.targets = targets, .spec = &spec};

    controller_submit(bed->c, &submission, bed->now, on_submitted, bed);
    commit(bed);
}

/* Every figure on one card, none on another; a node that is silent while a task holds its card. */
static struct bed *bed_new(void) {
    static const struct controller_ops ops = {op_record, op_send, op_changed};
    struct bed *bed = g_new0(struct bed, 1);
    struct node_info *mynode = node_info_new("mynode"), *silent = node_info_new("silent");
    struct gpu *full = add_gpu(mynode, 0, "NVIDIA \"H100\" 80GB\\HBM3");

    bed->c = controller_new(&ops, bed, &(struct controller_settings){.offline_after_ms = 30000});
    bed->now = (struct core_time){.wall_ms = 1700000000000, .mono_ms = 1000000};
    for (int i = 0; i < GPU_FIGURE_COUNT_; i++)
        gpu_set(full, i, i + 1);
    gpu_set(full, GPU_MEM_TOTAL, 81920 * MIB);
    gpu_set(full, GPU_MEM_USED, 512 * MIB);
    gpu_set(full, GPU_POWER, 70089);
    gpu_set(full, GPU_ECC_UNCORRECTED, 0); /* a card that can be granted */
    gpu_set(full, GPU_THROTTLE, GPU_THROTTLE_POWER_CAP);
    gpu_set(full, GPU_REMAP_PENDING, 0);
    gpu_set(full, GPU_REMAP_FAILED, 0);
    gpu_set(full, GPU_RECOVERY, 0);
    gpu_set(full, GPU_IDLE_SINCE, bed->now.wall_ms - 1000);
    gpu_note_xid(full, 13, 1, bed->now.wall_ms);
    add_gpu(mynode, 1, "");
    gpu_set(add_gpu(silent, 0, "NVIDIA A100"), GPU_UTIL, 77);
    hello(bed, silent);
    submit(bed, "silent::0", "lost one", NULL);
    bed->now.mono_ms += 60500;
    bed->now.wall_ms += 60500;
    hello(bed, mynode);
    submit(bed, "mynode::0", "tr\"ai\nn\\", "alice@x");
    return bed;
}

static void bed_free(struct bed *bed) {
    controller_free(bed->c);
    g_queue_clear_full(&bed->records, (GDestroyNotify)record_free);
    g_free(bed);
}

static void test_golden(void) {
    struct bed *bed = bed_new();
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *expected = NULL;

    metrics_add_cluster(text, bed->c, bed->now);
    if (g_getenv("UPDATE_GOLDEN"))
        g_assert_true(fs_write_durable(GOLDEN, 0644, text->str, text->len, NULL));
    g_assert_true(fs_read_file(GOLDEN, 1 << 20, &expected, NULL, NULL));
    g_assert_cmpstr(text->str, ==, expected);
    bed_free(bed);
}

static size_t samples_with(const char *text, const char *part) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    size_t n = 0;

    for (char **line = lines; *line; line++)
        n += (*line)[0] != '#' && strstr(*line, part);
    return n;
}

/* R3: silence takes the figures away, never the holder. */
static void test_silent(void) {
    struct bed *bed = bed_new();
    g_autoptr(GString) text = g_string_new(NULL);

    metrics_add_cluster(text, bed->c, bed->now);
    g_assert_cmpuint(samples_with(text->str, "DCGM_FI_DEV_GPU_UTIL{"), ==, 1);
    g_assert_cmpuint(samples_with(text->str, "Hostname=\"silent\",state=\"free\""), ==, 0);
    g_assert_cmpuint(samples_with(text->str, "Hostname=\"silent\",kind=\"task\",task=\"1\""), ==, 1);
    bed->now.mono_ms += 60500;
    g_string_truncate(text, 0);
    metrics_add_cluster(text, bed->c, bed->now);
    g_assert_cmpuint(samples_with(text->str, "DCGM_"), ==, 0);
    g_assert_cmpuint(samples_with(text->str, "kohakuriver_gpu_holder_info{"), ==, 2);
    g_assert_cmpuint(samples_with(text->str, "state=\"lost\"} 2"), ==, 1);
    bed_free(bed);
}

static void test_process(void) {
    g_autoptr(GString) text = g_string_new(NULL);
    const char *resident;

    metrics_add_process(text);
    resident = strstr(text->str, "\nprocess_resident_memory_bytes ");
    g_assert_nonnull(resident);
    g_assert_cmpint(g_ascii_strtoll(strchr(resident + 1, ' '), NULL, 10), >, 1 << 20);
    g_assert_nonnull(strstr(text->str, "kohakuriver_build_info{version=\"" KR_VERSION "\"} 1\n"));
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/metrics/golden", test_golden);
    g_test_add_func("/metrics/R3-silent", test_silent);
    g_test_add_func("/metrics/process", test_process);
    return g_test_run();
}
