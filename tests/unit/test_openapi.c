/* The OpenAPI document is true: every route is in it, every schema that it names exists, and none is left over. */

#include <string.h>

#include "host/host_internal.h"

static void collect_refs(const json_t *json, GHashTable *refs) {
    const char *key;
    json_t *value;
    size_t i;

    json_object_foreach ((json_t *)(uintptr_t)json, key, value) {
        if (strcmp(key, "$ref") == 0)
            g_hash_table_add(refs, g_strdup(json_string_value(value) + strlen("#/components/schemas/")));
        collect_refs(value, refs);
    }
    json_array_foreach (json, i, value)
        collect_refs(value, refs);
}

static void test_complete(void) {
    json_t *document = openapi_document(host_routes);
    const json_t *paths = json_object_get(document, "paths");
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    g_autoptr(GHashTable) refs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GHashTableIter iter;
    gpointer name;
    const char *key;
    json_t *value;

    for (const struct http_route *route = host_routes; route->method; route++) {
        g_autofree char *method = g_ascii_strdown(route->method, -1);
        const json_t *operation = json_object_get(json_object_get(paths, route->path), method);
        g_assert_nonnull(operation);
        g_assert_cmpstr(json_string_value(json_object_get(operation, "operationId")), ==, route->operation);
    }
    collect_refs(document, refs);
    g_hash_table_iter_init(&iter, refs);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        if (!json_object_get(schemas, name))
            g_error("schema %s is named and not there", (const char *)name);
    json_object_foreach ((json_t *)(uintptr_t)schemas, key, value)
        if (!g_hash_table_contains(refs, key))
            g_error("schema %s is not used", key);
    json_decref(document);
}

/* What the code sends has just the members that the schema lists, and all that it requires. */
static void check_against(const json_t *answer, const char *schema_name) {
    json_t *document = openapi_document(host_routes);
    const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
    const json_t *schema = json_object_get(schemas, schema_name);
    const json_t *properties = json_object_get(schema, "properties");
    const char *key;
    json_t *value;
    size_t i;

    json_object_foreach ((json_t *)(uintptr_t)answer, key, value)
        if (!json_object_get(properties, key))
            g_error("%s: member %s is not in the document", schema_name, key);
    json_array_foreach (json_object_get(schema, "required"), i, value)
        if (!json_object_get(answer, json_string_value(value)))
            g_error("%s: member %s is required and not sent", schema_name, json_string_value(value));
    json_decref(document);
}

static void test_task(void) {
    const char *argv[] = {"ls", NULL};
    struct task_spec spec = {
        .argv = (char **)(uintptr_t)argv, .name = (char *)(uintptr_t) "n", .image = (char *)(uintptr_t) "i"};
    struct task full = {.id = 1,
                        .batch_id = (char *)(uintptr_t) "b",
                        .target = (char *)(uintptr_t) "t",
                        .spec = &spec,
                        .state = TASK_FAILED,
                        .holding = (char *)(uintptr_t) "h",
                        .kill_requested = true,
                        .pause_requested = true,
                        .has_exit_code = true,
                        .oom = true,
                        .reason = (char *)(uintptr_t) "r",
                        .created_ms = 1,
                        .started_ms = 2,
                        .finished_ms = 3};
    json_t *json = task_to_json(&full, NULL);

    check_against(json, "Task");
    json_decref(json);
    full = (struct task){.id = 1,
                         .batch_id = full.batch_id,
                         .target = full.target,
                         .spec = &spec,
                         .created_ms = 1,
                         .state = TASK_PENDING,
                         .lease = {.numa = TARGET_NO_NUMA}};
    json = task_to_json(&full, "lost");
    check_against(json, "Task");
    json_decref(json);
}

static void test_gpu(void) {
    struct gpu gpu = {.condition = GPU_CONDITION_FOREIGN, .reason = (char *)(uintptr_t) "r", .valid = 0xff};
    json_t *json = gpu_to_json(&gpu);

    /* what api_node.c adds; e2e compares the whole answers */
    json_object_update_new(json, json_pack("{s:b,s:s,s:i,s:s,s:s}", "free", 0, "state", "foreign", "state_since_ms", 1,
                                           "way_out", "", "health", "ok"));
    check_against(json, "Gpu");
    json_decref(json);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/openapi/complete", test_complete);
    g_test_add_func("/openapi/task", test_task);
    g_test_add_func("/openapi/gpu", test_gpu);
    return g_test_run();
}
