#include "engine/docker_json.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "engine/docker_stream.h"

/* The newest API version that this code was written against; nothing of it is newer than 1.40. */
enum { OUR_API_MINOR = 47, OUR_API_MIN_MINOR = 40, ERROR_TEXT_MAX = 700, MAX_LABELS = 1000 };

/* ---- to the engine ---- */

static json_t *strv_to_json(char *const *strv) {
    json_t *list = json_array();

    for (; strv && *strv; strv++)
        json_array_append_new(list, json_string(*strv));
    return list;
}

static json_t *labels_to_json(char *const *labels) {
    json_t *object = json_object();

    for (; labels && *labels; labels++) {
        const char *equals = strchr(*labels, '=');
        g_autofree char *key = equals ? g_strndup(*labels, (gsize)(equals - *labels)) : NULL;
        if (key)
            json_object_set_new(object, key, json_string(equals + 1));
    }
    return object;
}

static json_t *mounts_to_json(const struct engine_mount *mounts, size_t n) {
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:b}", "Type", "bind", "Source", mounts[i].source, "Target",
                                              mounts[i].target, "ReadOnly", mounts[i].read_only));
    return list;
}

/* Exactly one request: of two the engine obeys only the last, and without a word. */
static json_t *gpus_to_json(const struct engine_config *config) {
    json_t *ids;

    if (config->injection != ENGINE_INJECTION_CDI)
        return json_pack("[{s:s,s:i,s:o,s:[[s,s,s]]}]", "Driver", "nvidia", "Count", 0, "DeviceIDs",
                         strv_to_json(config->gpu_uuids), "Capabilities", "gpu", "compute", "utility");
    ids = json_array();
    for (char *const *uuid = config->gpu_uuids; *uuid; uuid++) {
        g_autofree char *name = g_strconcat("nvidia.com/gpu=", *uuid, NULL);
        json_array_append_new(ids, json_string(name));
    }
    return json_pack("[{s:s,s:o}]", "Driver", "cdi", "DeviceIDs", ids);
}

static json_t *devices_to_json(const struct engine_config *config) {
    json_t *list = json_array();

    for (size_t i = 0; i < config->n_devices; i++)
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s}", "PathOnHost", config->devices[i].source, "PathInContainer",
                                        config->devices[i].target, "CgroupPermissions", "rwm"));
    return list;
}

static json_t *groups_to_json(const struct engine_config *config) {
    json_t *list = json_array();

    for (size_t i = 0; i < config->n_groups; i++) {
        g_autofree char *id = g_strdup_printf("%u", (unsigned)config->groups[i]);
        json_array_append_new(list, json_string(id));
    }
    return list;
}

static void set_str(json_t *object, const char *key, const char *value) {
    if (value && value[0])
        json_object_set_new(object, key, json_string(value));
}

static void set_int(json_t *object, const char *key, int64_t value) {
    if (value > 0)
        json_object_set_new(object, key, json_integer(value));
}

/* The engine's "local" driver keeps what a container printed until it is removed, so that the output can be read again, and
 * byte for byte: "json-file" turns whatever is no UTF-8 into question marks. Two files, so that one is always whole. */
static json_t *log_to_json(int64_t max_bytes) {
    g_autofree char *size = g_strdup_printf("%" G_GINT64_FORMAT, MAX(max_bytes, 1024 * 1024));

    if (max_bytes <= 0)
        return json_pack("{s:s,s:{}}", "Type", "local", "Config");
    return json_pack("{s:s,s:{s:s,s:s,s:s}}", "Type", "local", "Config", "max-size", size, "max-file", "2", "compress",
                     "false");
}

static json_t *host_config(const struct engine_config *config) {
    json_t *host = json_pack("{s:b,s:o,s:o,s:s}", "Init", 1, "LogConfig", log_to_json(config->log_max_bytes), "Mounts",
                             mounts_to_json(config->mounts, config->n_mounts), "Runtime", "runc");

    set_str(host, "NetworkMode", config->network);
    set_str(host, "CpusetCpus", config->cpuset_cpus);
    set_str(host, "CpusetMems", config->cpuset_mems);
    set_int(host, "NanoCpus", (int64_t)config->cores * 1000000000);
    set_int(host, "Memory", config->mem_bytes);
    set_int(host, "MemorySwap", config->mem_bytes);
    set_int(host, "ShmSize", config->shm_bytes);
    if (config->memlock != ENGINE_MEMLOCK_DEFAULT)
        json_object_set_new(host, "Ulimits",
                            json_pack("[{s:s,s:I,s:I}]", "Name", "memlock", "Soft", (json_int_t)config->memlock, "Hard",
                                      (json_int_t)config->memlock));
    if (config->gpu_uuids && config->gpu_uuids[0])
        json_object_set_new(host, "DeviceRequests", gpus_to_json(config));
    if (config->n_devices)
        json_object_set_new(host, "Devices", devices_to_json(config));
    if (config->n_groups)
        json_object_set_new(host, "GroupAdd", groups_to_json(config));
    return host;
}

char *docker_create_body(const struct engine_config *config) {
    json_t *body = json_pack("{s:s,s:[],s:o,s:o,s:o,s:o}", "Image", config->image, "Entrypoint", "Cmd",
                             strv_to_json(config->argv), "Env", strv_to_json(config->env), "Labels",
                             labels_to_json(config->labels), "HostConfig", host_config(config));
    char *text;

    set_str(body, "WorkingDir", config->working_dir);
    text = jsonx_to_str(body);
    json_decref(body);
    return text;
}

char *docker_label_filter(const char *const *labels) {
    json_t *filter = json_pack("{s:o}", "label", strv_to_json((char *const *)labels));
    g_autofree char *text = jsonx_to_str(filter);

    json_decref(filter);
    return g_uri_escape_string(text, NULL, FALSE);
}

char *docker_pull_query(const char *image) {
    const char *slash = strrchr(image, '/');
    const char *colon = strchr(slash ? slash : image, ':');
    const char *digest = strchr(image, '@');
    g_autofree char *name = colon && !digest ? g_strndup(image, (gsize)(colon - image)) : g_strdup(image);
    g_autofree char *name_escaped = g_uri_escape_string(name, NULL, FALSE);
    g_autofree char *tag = g_uri_escape_string(colon && !digest ? colon + 1 : "latest", NULL, FALSE);

    if (digest)
        return g_strconcat("fromImage=", name_escaped, NULL);
    return g_strconcat("fromImage=", name_escaped, "&tag=", tag, NULL);
}

/* ---- from the engine ---- */

/* On one line, valid UTF-8 and not too long, whatever came. */
static char *one_line(const char *text) {
    g_autofree char *head = g_strndup(text, ERROR_TEXT_MAX);
    char *line = g_utf8_make_valid(head, -1);

    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    return g_strstrip(line);
}

char *docker_error_text(int status, const char *text, size_t len) {
    json_t *body = jsonx_parse(text, len, NULL);
    const char *message = json_string_value(json_object_get(body, "message"));
    char *line = message && message[0] ? one_line(message) : g_strdup_printf("the engine answered %d", status);

    json_decref(body);
    return line;
}

char *docker_parse_created(const char *text, size_t len, GError **error) {
    json_t *body = jsonx_parse(text, len, error);
    struct json_reader r;
    char *id = NULL;

    if (!body)
        return NULL;
    r = jr_init(body, "created container", error);
    id = g_strdup(jr_str(&r, "Id", ENGINE_ID_MAX_BYTES));
    if (!r.failed && id[0] == '\0')
        jr_fail(&r, "\"Id\" is empty");
    if (!jr_done(&r))
        g_clear_pointer(&id, g_free);
    json_decref(body);
    return id;
}

static GHashTable *read_labels(struct json_reader *r) {
    GHashTable *labels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    json_t *object = (json_t *)jr_object_opt(r, "Labels", MAX_LABELS);
    const char *key;
    json_t *value;

    json_object_foreach (object, key, value)
        if (json_is_string(value))
            g_hash_table_insert(labels, g_strdup(key), g_strdup(json_string_value(value)));
    return labels;
}

static enum engine_state state_from_str(const char *text) {
    static const struct {
        const char *name;
        enum engine_state state;
    } row[] = {{"created", ENGINE_CREATED},    {"running", ENGINE_RUNNING}, {"paused", ENGINE_RUNNING},
               {"restarting", ENGINE_RUNNING}, {"removing", ENGINE_EXITED}, {"exited", ENGINE_EXITED},
               {"dead", ENGINE_EXITED}};

    for (size_t i = 0; i < G_N_ELEMENTS(row); i++)
        if (strcmp(row[i].name, text) == 0)
            return row[i].state;
    return ENGINE_STATE_UNSET;
}

static int64_t read_time_ms(struct json_reader *r, const char *key) {
    const char *text = jr_str_opt(r, key, 64, "");
    int64_t ns = 0;

    if (text[0] && !docker_time_from_str(text, strlen(text), &ns))
        jr_fail(r, "\"%s\" is no time", key);
    return ns / 1000000;
}

static void read_state(struct json_reader *outer, struct engine_container *container) {
    const json_t *state = jr_object(outer, "State", 100);
    struct json_reader r = jr_init(state, "container's state", outer->failed ? NULL : outer->error);
    const char *error;

    if (!r.failed) {
        container->state = state_from_str(jr_str(&r, "Status", 32));
        container->is_paused = jr_bool_opt(&r, "Paused", false);
        container->pid = (pid_t)jr_int_opt(&r, "Pid", 0, G_MAXINT32, 0);
        container->exit_code = (int)jr_int_opt(&r, "ExitCode", G_MININT, G_MAXINT, 0);
        container->oom_killed = jr_bool_opt(&r, "OOMKilled", false);
        container->started_ms = read_time_ms(&r, "StartedAt");
        container->finished_ms = read_time_ms(&r, "FinishedAt");
        error = jr_str_opt(&r, "Error", 1024 * 1024, "");
        container->error = error[0] ? one_line(error) : NULL;
        if (!r.failed && container->state == ENGINE_STATE_UNSET)
            jr_fail(&r, "\"Status\" is not known here");
    }
    outer->failed |= r.failed;
}

struct engine_container *docker_parse_inspect(const char *text, size_t len, GError **error) {
    json_t *body = jsonx_parse(text, len, error);
    struct engine_container *container;
    struct json_reader r, config;
    const json_t *inner;

    if (!body)
        return NULL;
    r = jr_init(body, "container", error);
    container = g_new0(struct engine_container, 1);
    container->id = g_strdup(jr_str(&r, "Id", ENGINE_ID_MAX_BYTES));
    read_state(&r, container);
    inner = jr_object(&r, "Config", 200);
    config = jr_init(inner, "container's config", r.failed ? NULL : error);
    container->labels = read_labels(&config);
    if (r.failed || config.failed || !jr_done(&r))
        g_clear_pointer(&container, engine_container_free);
    json_decref(body);
    return container;
}

static struct engine_container *read_listed(const json_t *item, GError **error) {
    struct json_reader r = jr_init(item, "listed container", error);
    struct engine_container *container = g_new0(struct engine_container, 1);

    container->id = g_strdup(jr_str(&r, "Id", ENGINE_ID_MAX_BYTES));
    container->state = state_from_str(jr_str(&r, "State", 32));
    container->labels = read_labels(&r);
    if (jr_done(&r))
        return container;
    engine_container_free(container);
    return NULL;
}

GPtrArray *docker_parse_list(const char *text, size_t len, GError **error) {
    json_t *body = jsonx_parse(text, len, error);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)engine_container_free);
    bool ok = body != NULL;
    json_t *item;
    size_t i;

    if (ok && (!json_is_array(body) || json_array_size(body) > DOCKER_MAX_CONTAINERS))
        ok = kr_fail(error, BAD_REQUEST, "the engine's list of containers is no list or has more than %d entries",
                     DOCKER_MAX_CONTAINERS);
    for (i = 0; ok && i < json_array_size(body) && (item = json_array_get(body, i)); i++) {
        struct engine_container *container = read_listed(item, error);
        ok = container != NULL;
        if (ok)
            g_ptr_array_add(list, container);
    }
    json_decref(body);
    return ok ? g_steal_pointer(&list) : NULL;
}

/* The minor number of "1.N", -1 for anything else. */
static int api_minor(const char *text) {
    char *end;
    gint64 minor;

    if (strncmp(text, "1.", 2) != 0 || !g_ascii_isdigit(text[2]))
        return -1;
    minor = g_ascii_strtoll(text + 2, &end, 10);
    return *end == '\0' && minor < 1000 ? (int)minor : -1;
}

static bool choose_api(int min, int max, char **ret_api, GError **error) {
    if (max < OUR_API_MIN_MINOR || min > OUR_API_MINOR)
        return kr_fail(error, REFUSED, "its API versions 1.%d to 1.%d and ours, 1.%d to 1.%d, have none in common",
                       MAX(min, 0), max, OUR_API_MIN_MINOR, OUR_API_MINOR);
    *ret_api = g_strdup_printf("1.%d", MIN(max, OUR_API_MINOR));
    return true;
}

bool docker_parse_version(const char *text, size_t len, char **ret_api, char **ret_version, char **ret_text,
                          GError **error) {
    json_t *body = jsonx_parse(text, len, error);
    struct json_reader r;
    bool ok = false;

    if (!body)
        return false;
    r = jr_init(body, "the engine's version", error);
    {
        int max = api_minor(jr_str(&r, "ApiVersion", 16)), min = api_minor(jr_str_opt(&r, "MinAPIVersion", 16, "1.12"));
        g_autofree char *version = one_line(jr_str(&r, "Version", 128));

        if (jr_done(&r) && choose_api(min, max, ret_api, error)) {
            *ret_text = g_strdup_printf("Docker %s", version);
            *ret_version = g_steal_pointer(&version);
            ok = true;
        }
    }
    json_decref(body);
    return ok;
}

/* DiscoveredDevices: [{"Source":"cdi","ID":"nvidia.com/gpu=…"}] of engines since API 1.50. */
static char **read_discovered(struct json_reader *r) {
    const json_t *list = jr_array_opt(r, "DiscoveredDevices", 10000);
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        const char *id = json_string_value(json_object_get(item, "ID"));
        if (id && g_str_has_prefix(id, "nvidia.com/gpu="))
            g_strv_builder_add(names, id);
    }
    return g_strv_builder_end(names);
}

bool docker_parse_info(const char *text, size_t len, int *ret_cpus, char ***ret_cdi_devices, char ***ret_cdi_folders,
                       GError **error) {
    json_t *body = jsonx_parse(text, len, error);
    struct json_reader r;
    g_auto(GStrv) devices = NULL, folders = NULL;
    bool ok;

    if (!body)
        return false;
    r = jr_init(body, "the engine's info", error);
    *ret_cpus = (int)jr_int_opt(&r, "NCPU", 0, G_MAXINT, 0);
    devices = read_discovered(&r);
    folders = jr_strv_opt(&r, "CDISpecDirs", 100, 4096);
    ok = jr_done(&r);
    if (ok) {
        *ret_cdi_devices = g_steal_pointer(&devices);
        *ret_cdi_folders = g_steal_pointer(&folders);
    }
    json_decref(body);
    return ok;
}

bool docker_parse_pull_line(const char *text, size_t len, GError **error) {
    json_t *line = jsonx_parse(text, len, NULL);
    const char *message = json_string_value(json_object_get(line, "error"));
    g_autofree char *clean = message ? one_line(message) : NULL;

    json_decref(line);
    return !clean || kr_fail(error, REFUSED, "%s", clean);
}
