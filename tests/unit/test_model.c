/* The nouns survive the way over the wire, and refuse what they must. */

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "model/node.h"
#include "model/task.h"

static struct gpu *make_gpu(int index) {
    struct gpu *gpu = gpu_new();

    gpu->index = index;
    g_snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08d", index);
    g_snprintf(gpu->pci, sizeof gpu->pci, "0000:%02x:00.0", index + 1);
    g_strlcpy(gpu->name, "Card", sizeof gpu->name);
    gpu->condition = GPU_CONDITION_OK;
    return gpu;
}

static void test_unknown_is_absent(void) { /* R3: a figure that is not known is not 0 */
    struct gpu *gpu = make_gpu(0);
    json_t *json;
    struct gpu *back;

    gpu_set(gpu, GPU_TEMP, -5);
    gpu_set(gpu, GPU_MEM_TOTAL, 80LL << 30);
    json = gpu_to_json(gpu);
    g_assert_null(json_object_get(json, "utilization_percent"));
    g_assert_null(json_object_get(json, "memory_used_bytes"));
    back = gpu_from_json(json, NULL);
    g_assert_cmpuint(back->valid, ==, gpu->valid);
    g_assert_cmpint(gpu_figure(back, GPU_TEMP), ==, -5);
    g_assert_cmpint(gpu_figure(back, GPU_MEM_TOTAL), ==, 80LL << 30);
    json_decref(json);
    gpu_free(gpu);
    gpu_free(back);
}

static void test_device_nodes(void) { /* a bounded list, and of devices only */
    struct gpu *gpu = make_gpu(0), *back;
    json_t *json = gpu_to_json(gpu);

    g_assert_null(json_object_get(json, "device_nodes"));
    json_object_set_new(json, "device_nodes", json_pack("[s,s]", "/dev/dri/renderD128", "/dev/kfd"));
    back = gpu_from_json(json, NULL);
    g_assert_cmpuint(back->n_device_nodes, ==, 2);
    g_assert_cmpstr(back->device_nodes[1], ==, "/dev/kfd");
    gpu_free(back);
    json_object_set_new(json, "device_nodes", json_pack("[s]", "/etc/shadow"));
    g_assert_null(gpu_from_json(json, NULL));
    json_object_set_new(json, "device_nodes", json_pack("[s]", "/dev/../etc/shadow"));
    g_assert_null(gpu_from_json(json, NULL));
    json_object_set_new(json, "device_nodes",
                        json_pack("[s,s,s,s,s]", "/dev/a", "/dev/b", "/dev/c", "/dev/d", "/dev/e"));
    g_assert_null(gpu_from_json(json, NULL));
    json_decref(json);
    for (int i = 0; i < GPU_MAX_DEVICE_NODES; i++)
        g_assert_true(gpu_add_device_node(gpu, "/dev/x"));
    g_assert_false(gpu_add_device_node(gpu, "/dev/x"));
    gpu_free(gpu);
}

static void test_node_roundtrip(void) {
    struct node_info *info = node_info_new("mynode");
    g_autofree char *one = NULL;
    g_autofree char *two = NULL;
    struct node_info *back;
    json_t *json;

    info->boot_id = g_strdup("boot");
    info->cores = 8;
    info->mem_total_bytes = 1LL << 40;
    info->gpus_known = true;
    info->engine_ok = true;
    info->engine_text = g_strdup("Docker");
    g_ptr_array_add(info->numa, numa_node_new(1, "0-3,8", 1024));
    g_ptr_array_add(info->gpus, make_gpu(0));
    g_ptr_array_add(info->gpus, make_gpu(3));
    json = node_info_to_json(info);
    one = jsonx_to_str(json);
    back = node_info_from_json(json, NULL);
    json_decref(json);
    json = node_info_to_json(back);
    two = jsonx_to_str(json);
    json_decref(json);
    g_assert_cmpstr(one, ==, two);
    g_assert_cmpint(node_info_numa(back, 1)->cores, ==, 5);
    g_assert_nonnull(node_info_gpu_by_index(back, 3));
    g_assert_null(node_info_gpu_by_index(back, 1));
    node_info_free(info);
    node_info_free(back);
}

static void test_node_duplicates(void) { /* R4, L49: one card is listed once */
    for (int kind = 0; kind < 3; kind++) {
        struct node_info *info = node_info_new("n");
        struct gpu *twin = make_gpu(1);
        json_t *json;

        g_ptr_array_add(info->gpus, make_gpu(0));
        g_ptr_array_add(info->gpus, twin);
        if (kind == 0)
            twin->index = 0;
        else if (kind == 1)
            g_strlcpy(twin->uuid, "GPU-00000000", sizeof twin->uuid);
        else
            g_strlcpy(twin->pci, "0000:01:00.0", sizeof twin->pci);
        json = node_info_to_json(info);
        g_assert_null(node_info_from_json(json, NULL));
        json_decref(json);
        node_info_free(info);
    }
}

static struct task_spec *spec_from(const char *text, GError **error) {
    json_t *json = jsonx_parse(text, strlen(text), NULL);
    struct task_spec *spec = task_spec_from_json(json, error);

    json_decref(json);
    return spec;
}

static void test_spec_bad(void) {
    static const struct {
        const char *json, *part;
    } rows[] = {
        {"{}", "no command"},
        {"{\"command\":[]}", "no command"},
        {"{\"command\":[\"\"]}", "no command"},
        {"{\"command\":\"ls\"}", "must be a list"},
        {"{\"command\":[\"ls\"],\"cores\":-1}", "must lie between"},
        {"{\"command\":[\"ls\"],\"memory_bytes\":1000}", "6 MiB"},
        {"{\"command\":[\"ls\"],\"env\":[\"A\"]}", "NAME=VALUE"},
        {"{\"command\":[\"ls\"],\"env\":[\"=1\"]}", "NAME=VALUE"},
        {"{\"command\":[\"ls\"],\"env\":[\"NVIDIA_VISIBLE_DEVICES=all\"]}", "set by the lease"}, /* L51, L53 */
        {"{\"command\":[\"ls\"],\"env\":[\"CUDA_VISIBLE_DEVICES=0\"]}", "set by the lease"},
        {"{\"command\":[\"ls\"],\"mounts\":[\"a:/b\"]}", "mount"},
        {"{\"command\":[\"ls\"],\"mounts\":[\"/a/../etc:/b\"]}", "mount"},
        {"{\"command\":[\"ls\"],\"mounts\":[\"/a:/b:x\"]}", "mount"},
        {"{\"command\":[\"ls\"],\"image\":\"\"}", "image"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(spec_from(rows[i].json, &error));
        if (!strstr(error->message, rows[i].part))
            g_error("%s: \"%s\" does not contain \"%s\"", rows[i].json, error->message, rows[i].part);
    }
}

static void test_spec_exact(void) { /* arguments arrive as they were given */
    struct task_spec *spec = spec_from("{\"command\":[\"a b\",\"\",\"'\\\"\",\"x\\ny\",\"\\u00e9\\ud83d\\ude00\"]}",
                                       NULL);
    json_t *json = task_spec_to_json(spec);
    struct task_spec *back = task_spec_from_json(json, NULL);

    g_assert_cmpuint(g_strv_length(back->argv), ==, 5);
    g_assert_cmpstr(back->argv[1], ==, "");
    g_assert_cmpstr(back->argv[2], ==, "'\"");
    g_assert_cmpstr(back->argv[3], ==, "x\ny");
    g_assert_cmpstr(back->argv[4], ==, "é😀");
    json_decref(json);
    task_spec_free(spec);
    task_spec_free(back);
}

static void test_report(void) {
    struct task_report report = {.task_id = 7,
                                 .epoch = 9,
                                 .state = TASK_FAILED,
                                 .has_exit_code = true,
                                 .exit_code = 137,
                                 .oom = true,
                                 .reason = g_strnfill(5000, 'x'),
                                 .released = true};
    json_t *json = task_report_to_json(&report);
    struct task_report back;

    g_assert_true(task_report_from_json(json, &back, NULL));
    g_assert_cmpint(back.exit_code, ==, 137);
    g_assert_true(back.oom && back.released && back.has_exit_code);
    g_assert_cmpuint(strlen(back.reason), ==, TASK_REASON_MAX_BYTES); /* cut, not refused */
    json_decref(json);
    task_report_clear(&report);
    task_report_clear(&back);
}

static void test_lease(void) {
    struct lease lease = {.task_id = 1, .epoch = 2, .node = "n", .n_gpus = 1, .numa = TARGET_NO_NUMA};
    struct lease back;
    json_t *json;

    g_strlcpy(lease.gpus[0].uuid, "GPU-a", sizeof lease.gpus[0].uuid);
    json = lease_to_json(&lease);
    g_assert_true(lease_from_json(json, &back, NULL));
    g_assert_true(lease_has_gpu(&back, "GPU-a"));
    json_array_append(json_object_get(json, "gpus"), json_array_get(json_object_get(json, "gpus"), 0));
    g_assert_false(lease_from_json(json, &back, NULL)); /* L17: twice the same card */
    json_decref(json);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/model/gpu/R3-unknown-is-absent", test_unknown_is_absent);
    g_test_add_func("/model/gpu/device-nodes", test_device_nodes);
    g_test_add_func("/model/node/roundtrip", test_node_roundtrip);
    g_test_add_func("/model/node/R4-L49-duplicates", test_node_duplicates);
    g_test_add_func("/model/task/spec-bad-L51-L53", test_spec_bad);
    g_test_add_func("/model/task/spec-exact", test_spec_exact);
    g_test_add_func("/model/task/report", test_report);
    g_test_add_func("/model/lease/L17", test_lease);
    return g_test_run();
}
