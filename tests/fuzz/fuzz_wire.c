/* Everything that comes as JSON from outside: nodes, leases, specs, reports. What is accepted survives a round trip. */

#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "model/lease.h"
#include "model/node.h"
#include "model/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_node(const json_t *json) {
    struct node_info *info = node_info_from_json(json, NULL);
    json_t *out = info ? node_info_to_json(info) : NULL;
    struct node_info *again = out ? node_info_from_json(out, NULL) : NULL;

    g_assert(!info || again);
    json_decref(out);
    node_info_free(info);
    node_info_free(again);
}

static void check_spec(const json_t *json) {
    struct task_spec *spec = task_spec_from_json(json, NULL);
    json_t *out = spec ? task_spec_to_json(spec) : NULL;
    struct task_spec *again = out ? task_spec_from_json(out, NULL) : NULL;

    g_assert(!spec || (again && again->argv[0]));
    json_decref(out);
    task_spec_free(spec);
    task_spec_free(again);
}

static void check_report(const json_t *json) {
    struct task_report report, again;
    json_t *out;

    if (!task_report_from_json(json, &report, NULL))
        return;
    out = task_report_to_json(&report);
    g_assert(task_report_from_json(out, &again, NULL));
    json_decref(out);
    task_report_clear(&report);
    task_report_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *json = jsonx_parse((const char *)data, size, NULL);
    struct lease lease;

    if (!json)
        return 0;
    check_node(json);
    check_spec(json);
    check_report(json);
    lease_from_json(json, &lease, NULL);
    json_decref(json);
    return 0;
}
