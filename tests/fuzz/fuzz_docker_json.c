/* Whatever an engine answers: parsed or refused with a message, never both, never neither. */
#include <stdlib.h>

#include "engine/docker_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void agree(bool ok, GError **error) {
    if (ok != (*error == NULL))
        abort();
    g_clear_error(error);
}

static void lists(const char *text, size_t size, GError **error) {
    GPtrArray *list = docker_parse_list(text, size, error);
    char **devices = NULL, **folders = NULL;
    int cpus;

    agree(list != NULL, error);
    if (list)
        g_ptr_array_unref(list);
    agree(docker_parse_info(text, size, &cpus, &devices, &folders, error), error);
    g_strfreev(devices);
    g_strfreev(folders);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    char *api = NULL, *version = NULL, *said = NULL, *id;
    GError *error = NULL;
    struct engine_container *container = docker_parse_inspect(text, size, &error);

    agree(container != NULL, &error);
    engine_container_free(container);
    lists(text, size, &error);
    agree(docker_parse_version(text, size, &api, &version, &said, &error), &error);
    g_free(api);
    g_free(version);
    g_free(said);
    id = docker_parse_created(text, size, &error);
    agree(id != NULL, &error);
    g_free(id);
    agree(docker_parse_pull_line(text, size, &error), &error);
    g_free(docker_error_text(500, text, size));
    return 0;
}
