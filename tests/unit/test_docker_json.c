#include "engine/docker_json.h"

#include <glib.h>
#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"

#define STRV(array) ((char *const *)(array))

static json_t *body_of(const struct engine_config *config) {
    g_autofree char *text = docker_create_body(config);
    json_t *body = jsonx_parse(text, strlen(text), NULL);

    g_assert_nonnull(body);
    return body;
}

static void assert_json(json_t *got, const char *expected) {
    g_autofree char *text = got ? jsonx_to_str(got) : g_strdup("(absent)");

    g_assert_cmpstr(text, ==, expected);
}

static const char *const argv_odd[] = {"sh", "-c", "echo \"$1\"; exit 3", "a b\n\xc3\xa4'", "", NULL};
static const char *const env_some[] = {"A=1", "B=x=y", NULL};
static const char *const labels_some[] = {ENGINE_LABEL_TASK "=42", ENGINE_LABEL_GPUS "=0=GPU-a,2=GPU-c", NULL};
static const char *const uuids_two[] = {"GPU-a", "GPU-c", NULL};

static struct engine_config config_plain(void) {
    return (struct engine_config){.name = "n",
                                  .image = "busybox:local",
                                  .argv = STRV(argv_odd),
                                  .env = STRV(env_some),
                                  .labels = STRV(labels_some),
                                  .memlock = ENGINE_MEMLOCK_DEFAULT};
}

/* The whole body of a simple container: nothing in it that was not asked for. */
static void test_create_plain(void) {
    struct engine_config config = config_plain();
    json_t *body = body_of(&config);

    assert_json(
        body,
        "{\"Image\":\"busybox:local\",\"Entrypoint\":[],"
        "\"Cmd\":[\"sh\",\"-c\",\"echo \\\"$1\\\"; exit 3\",\"a b\\n\xc3\xa4'\",\"\"],\"Env\":[\"A=1\",\"B=x=y\"],"
        "\"Labels\":{\"kohakuriver.task\":\"42\",\"kohakuriver.gpus\":\"0=GPU-a,2=GPU-c\"},"
        "\"HostConfig\":{\"Init\":true,\"LogConfig\":{\"Type\":\"local\",\"Config\":{}},\"Mounts\":[],\"Runtime\":"
        "\"runc\"}}");
    json_decref(body);
}

static void test_create_full(void) {
    struct engine_mount mounts[] = {{"/data/a:b", "/in", true}, {"/out", "/out", false}};
    struct engine_config config = config_plain();
    json_t *body;

    config.mounts = mounts;
    config.n_mounts = 2;
    config.network = "none";
    config.cpuset_cpus = "0-3";
    config.cpuset_mems = "1";
    config.cores = 2;
    config.mem_bytes = 67108864;
    config.shm_bytes = 1 << 20;
    config.memlock = ENGINE_MEMLOCK_UNLIMITED;
    config.working_dir = "/work";
    config.log_max_bytes = 1 << 26;
    config.gpu_uuids = STRV(uuids_two);
    config.injection = ENGINE_INJECTION_NVIDIA;
    body = body_of(&config);
    assert_json(json_object_get(body, "WorkingDir"), "\"/work\"");
    assert_json(json_object_get(body, "HostConfig"),
                "{\"Init\":true,\"LogConfig\":{\"Type\":\"local\",\"Config\":{\"max-size\":\"67108864\",\"max-file\":"
                "\"2\",\"compress\":\"false\"}},"
                "\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/data/a:b\",\"Target\":\"/in\",\"ReadOnly\":true},"
                "{\"Type\":\"bind\",\"Source\":\"/out\",\"Target\":\"/out\",\"ReadOnly\":false}],\"Runtime\":\"runc\","
                "\"NetworkMode\":\"none\",\"CpusetCpus\":\"0-3\",\"CpusetMems\":\"1\",\"NanoCpus\":2000000000,"
                "\"Memory\":67108864,\"MemorySwap\":67108864,\"ShmSize\":1048576,"
                "\"Ulimits\":[{\"Name\":\"memlock\",\"Soft\":-1,\"Hard\":-1}],"
                "\"DeviceRequests\":[{\"Driver\":\"nvidia\",\"Count\":0,\"DeviceIDs\":[\"GPU-a\",\"GPU-c\"],"
                "\"Capabilities\":[[\"gpu\",\"compute\",\"utility\"]]}]}");
    json_decref(body);
}

static void test_create_cdi(void) {
    struct engine_config config = config_plain();
    json_t *body;

    config.gpu_uuids = STRV(uuids_two);
    config.injection = ENGINE_INJECTION_CDI;
    body = body_of(&config);
    assert_json(json_object_get(json_object_get(body, "HostConfig"), "DeviceRequests"),
                "[{\"Driver\":\"cdi\",\"DeviceIDs\":[\"nvidia.com/gpu=GPU-a\",\"nvidia.com/gpu=GPU-c\"]}]");
    json_decref(body);
}

/* Cards of vendors without a hook: their nodes and no request; with cards of NVIDIA's beside them, both. */
static void test_create_devices(void) {
    static const struct engine_device devices[] = {{"/dev/dri/renderD128", "/dev/dri/renderD128"},
                                                   {"/root/dev/kfd", "/dev/kfd"}};
    static const gid_t groups[] = {44, 109};
    struct engine_config config = config_plain();
    json_t *body;

    config.devices = devices;
    config.n_devices = 2;
    config.groups = groups;
    config.n_groups = 2;
    body = body_of(&config);
    assert_json(json_object_get(body, "HostConfig"),
                "{\"Init\":true,\"LogConfig\":{\"Type\":\"local\",\"Config\":{}},\"Mounts\":[],\"Runtime\":"
                "\"runc\",\"Devices\":[{\"PathOnHost\":\"/dev/dri/renderD128\",\"PathInContainer\":"
                "\"/dev/dri/renderD128\",\"CgroupPermissions\":\"rwm\"},{\"PathOnHost\":\"/root/dev/kfd\","
                "\"PathInContainer\":\"/dev/kfd\",\"CgroupPermissions\":\"rwm\"}],\"GroupAdd\":[\"44\",\"109\"]}");
    json_decref(body);
    config.gpu_uuids = STRV(uuids_two);
    config.injection = ENGINE_INJECTION_NVIDIA;
    body = body_of(&config);
    g_assert_cmpuint(json_array_size(json_object_get(json_object_get(body, "HostConfig"), "DeviceRequests")), ==, 1);
    g_assert_cmpuint(json_array_size(json_object_get(json_object_get(body, "HostConfig"), "Devices")), ==, 2);
    json_decref(body);
}

/* L54: never a count, of which the engine would hand out the first N to everybody. An empty list is no request. */
static void test_never_a_count(void) {
    struct engine_config config = config_plain();
    const char *const none[] = {NULL};
    json_t *body;

    config.gpu_uuids = STRV(none);
    body = body_of(&config);
    g_assert_null(json_object_get(json_object_get(body, "HostConfig"), "DeviceRequests"));
    json_decref(body);
    config.gpu_uuids = STRV(uuids_two);
    body = body_of(&config);
    g_assert_cmpint(json_array_size(json_object_get(json_object_get(body, "HostConfig"), "DeviceRequests")), ==, 1);
    g_assert_cmpint(
        json_integer_value(json_object_get(
            json_array_get(json_object_get(json_object_get(body, "HostConfig"), "DeviceRequests"), 0), "Count")),
        ==, 0);
    json_decref(body);
}

static struct engine_container *inspect(const char *text, GError **error) {
    return docker_parse_inspect(text, strlen(text), error);
}

static void test_inspect(void) {
    g_autoptr(GError) error = NULL;
    struct engine_container *c = inspect("{\"Id\":\"2adef\",\"Created\":\"x\",\"State\":{\"Status\":\"exited\","
                                         "\"Running\":false,\"OOMKilled\":true,\"Pid\":0,"
                                         "\"ExitCode\":137,\"Error\":\"\",\"StartedAt\":\"2026-11-22T21:09:51.5Z\","
                                         "\"FinishedAt\":\"2026-11-22T21:09:52Z\"},"
                                         "\"Config\":{\"Labels\":{\"kohakuriver.task\":\"42\",\"odd\":7}}}",
                                         &error);

    g_assert_no_error(error);
    g_assert_cmpstr(c->id, ==, "2adef");
    g_assert_cmpint(c->state, ==, ENGINE_EXITED);
    g_assert_cmpint(c->exit_code, ==, 137);
    g_assert_true(c->oom_killed);
    g_assert_null(c->error);
    g_assert_cmpint(c->started_ms, ==, 1795381791500);
    g_assert_cmpint(c->finished_ms, ==, 1795381792000);
    g_assert_cmpstr(g_hash_table_lookup(c->labels, "kohakuriver.task"), ==, "42");
    g_assert_cmpint(g_hash_table_size(c->labels), ==, 1);
    engine_container_free(c);
}

/* The state that a refused GPU leaves behind, as engines without the hook give it. */
static void test_inspect_failed_start(void) {
    struct engine_container *c = inspect(
        "{\"Id\":\"1\",\"State\":{\"Status\":\"created\",\"Pid\":0,\"ExitCode\":128,\"Error\":\"could not select "
        "device driver "
        "\\\"nvidia\\\" with\\ncapabilities: [[gpu]]\",\"StartedAt\":\"0001-01-01T00:00:00Z\",\"FinishedAt\":"
        "\"0001-01-01T00:00:00Z\"},\"Config\":{\"Labels\":null}}",
        NULL);

    g_assert_nonnull(c);
    g_assert_cmpint(c->state, ==, ENGINE_CREATED);
    g_assert_cmpstr(c->error, ==, "could not select device driver \"nvidia\" with capabilities: [[gpu]]");
    g_assert_cmpint(c->started_ms, ==, 0);
    engine_container_free(c);
}

static void test_inspect_malformed(void) {
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"Id\":\"1\"}",
        "{\"Id\":\"1\",\"State\":[],\"Config\":{}}",
        "{\"Id\":\"1\",\"State\":{\"Status\":\"odd\"},\"Config\":{}}",
        "{\"Id\":\"1\",\"State\":{\"Status\":\"running\",\"Pid\":-1},\"Config\":{}}",
        "{\"Id\":\"1\",\"State\":{\"Status\":\"exited\",\"StartedAt\":\"now\"},\"Config\":{}}",
        "{\"Id\":\"1\",\"State\":{\"Status\":\"exited\"}}",
        "{\"Id\":1,\"State\":{},\"Config\":{}}"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(inspect(bad[i], &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_BAD_REQUEST);
    }
}

static void test_list(void) {
    const char *text = "[{\"Id\":\"a\",\"State\":\"running\",\"Labels\":{\"kohakuriver.node\":\"n1\"}},"
                       "{\"Id\":\"b\",\"State\":\"paused\",\"Labels\":{}},{\"Id\":\"c\",\"State\":\"dead\"}]";
    g_autoptr(GPtrArray) list = docker_parse_list(text, strlen(text), NULL);
    const struct engine_container *first = list->pdata[0], *second = list->pdata[1], *third = list->pdata[2];

    g_assert_cmpint(list->len, ==, 3);
    g_assert_cmpstr(g_hash_table_lookup(first->labels, "kohakuriver.node"), ==, "n1");
    g_assert_cmpint(second->state, ==, ENGINE_RUNNING); /* K1: a paused one holds its cards */
    g_assert_cmpint(third->state, ==, ENGINE_EXITED);
    g_assert_null(docker_parse_list("{}", 2, NULL));
    g_assert_null(docker_parse_list("[1]", 3, NULL));
}

static void check_version(const char *max, const char *min, const char *expected) {
    g_autofree char *text = g_strdup_printf("{\"Version\":\"x\",\"ApiVersion\":\"%s\",\"MinAPIVersion\":\"%s\"}", max,
                                            min);
    g_autofree char *api = NULL, *version = NULL, *said = NULL;
    bool ok = docker_parse_version(text, strlen(text), &api, &version, &said, NULL);

    g_assert_cmpint(ok, ==, expected != NULL);
    g_assert_cmpstr(api, ==, expected);
}

static void test_version(void) {
    check_version("1.41", "1.12", "1.41");
    check_version("1.51", "1.24", "1.47");
    check_version("1.52", "1.44", "1.47");
    check_version("1.70", "1.60", NULL);
    check_version("1.24", "1.12", NULL);
    check_version("2.0", "1.12", NULL);
    check_version("1.", "1.12", NULL);
}

static void test_info(void) {
    const char *text = "{\"NCPU\":2,\"CDISpecDirs\":[\"/etc/cdi\"],\"DiscoveredDevices\":[{\"Source\":\"cdi\",\"ID\":"
                       "\"nvidia.com/gpu=GPU-a\"},{\"ID\":\"other.com/x=1\"},7]}";
    g_auto(GStrv) devices = NULL, folders = NULL, no_devices = NULL, no_folders = NULL;
    int cpus;

    g_assert_true(docker_parse_info(text, strlen(text), &cpus, &devices, &folders, NULL));
    g_assert_cmpint(cpus, ==, 2);
    g_assert_cmpint(g_strv_length(devices), ==, 1);
    g_assert_cmpstr(folders[0], ==, "/etc/cdi");
    g_assert_true(docker_parse_info("{}", 2, &cpus, &no_devices, &no_folders, NULL));
    g_assert_cmpint(g_strv_length(no_devices), ==, 0);
}

static void test_errors(void) {
    const char *refusal = "{\"message\":\"No such image: x:\\nlatest\"}";
    g_autofree char *text = docker_error_text(404, refusal, strlen(refusal));
    g_autofree char *html = docker_error_text(502, "<html>", 6);
    g_autofree char *empty = docker_error_text(500, "{\"message\":\"\"}", 14);
    g_autoptr(GError) error = NULL;
    const char *line = "{\"errorDetail\":{},\"error\":\"pull access denied\"}";

    g_assert_cmpstr(text, ==, "No such image: x: latest");
    g_assert_cmpstr(html, ==, "the engine answered 502");
    g_assert_cmpstr(empty, ==, "the engine answered 500");
    g_assert_true(docker_parse_pull_line("{\"status\":\"Downloading\"}", 24, &error));
    g_assert_true(docker_parse_pull_line("nonsense", 8, &error));
    g_assert_false(docker_parse_pull_line(line, strlen(line), &error));
    g_assert_cmpstr(error->message, ==, "pull access denied");
}

static void check_pull(const char *image, const char *expected) {
    g_autofree char *query = docker_pull_query(image);
    g_assert_cmpstr(query, ==, expected);
}

static void test_queries(void) {
    const char *const labels[] = {"a=b c", NULL};
    g_autofree char *filter = docker_label_filter(labels);

    g_assert_cmpstr(filter, ==, "%7B%22label%22%3A%5B%22a%3Db%20c%22%5D%7D");
    check_pull("busybox", "fromImage=busybox&tag=latest");
    check_pull("a.b:5000/x/y:1.2", "fromImage=a.b%3A5000%2Fx%2Fy&tag=1.2");
    check_pull("a.b:5000/x", "fromImage=a.b%3A5000%2Fx&tag=latest");
    check_pull("x@sha256:ab", "fromImage=x%40sha256%3Aab");
    check_pull("x&tag=y", "fromImage=x%26tag%3Dy&tag=latest");
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/docker-json/create-plain", test_create_plain);
    g_test_add_func("/engine/docker-json/create-full", test_create_full);
    g_test_add_func("/engine/docker-json/create-cdi", test_create_cdi);
    g_test_add_func("/engine/docker-json/create-devices", test_create_devices);
    g_test_add_func("/engine/docker-json/L54-never-a-count", test_never_a_count);
    g_test_add_func("/engine/docker-json/inspect", test_inspect);
    g_test_add_func("/engine/docker-json/inspect-failed-start", test_inspect_failed_start);
    g_test_add_func("/engine/docker-json/inspect-malformed", test_inspect_malformed);
    g_test_add_func("/engine/docker-json/list", test_list);
    g_test_add_func("/engine/docker-json/api-version", test_version);
    g_test_add_func("/engine/docker-json/info", test_info);
    g_test_add_func("/engine/docker-json/errors", test_errors);
    g_test_add_func("/engine/docker-json/queries", test_queries);
    return g_test_run();
}
