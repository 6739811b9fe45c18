#include "doctor/cdi_spec.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"

static struct cdi_spec *spec_new(void) {
    struct cdi_spec *spec = g_new0(struct cdi_spec, 1);

    spec->devices = g_ptr_array_new_with_free_func(g_free);
    spec->nodes = g_ptr_array_new_with_free_func(g_free);
    spec->versions = g_ptr_array_new_with_free_func(g_free);
    return spec;
}

void cdi_spec_free(struct cdi_spec *spec) {
    if (!spec)
        return;
    g_free(spec->kind);
    g_ptr_array_unref(spec->devices);
    g_ptr_array_unref(spec->nodes);
    g_ptr_array_unref(spec->versions);
    g_free(spec);
}

static void add_once(GPtrArray *list, const char *text) {
    if (list->len < CDI_MAX_DEVICES && !g_ptr_array_find_with_equal_func(list, text, g_str_equal, NULL))
        g_ptr_array_add(list, g_strdup(text));
}

/* "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15" -> "550.54.15". The soname's own ".1" is no version. */
static void add_version(struct cdi_spec *spec, const char *path) {
    static const char *const libraries[] = {"/libcuda.so.", "/libnvidia-ml.so."};

    for (size_t i = 0; i < G_N_ELEMENTS(libraries); i++) {
        const char *at = strstr(path, libraries[i]);

        at = at ? at + strlen(libraries[i]) : NULL;
        if (at && at[0] && strchr(at, '.') && strspn(at, "0123456789.") == strlen(at))
            add_once(spec->versions, at);
    }
}

static void add_path(struct cdi_spec *spec, const char *path) {
    if (g_str_has_prefix(path, "/dev/"))
        add_once(spec->nodes, path);
    add_version(spec, path);
}

/* ---- JSON ---- */

static void take_paths(struct cdi_spec *spec, const json_t *list, const char *key) {
    const json_t *entry;
    size_t i;

    json_array_foreach (list, i, entry) {
        const char *path = json_string_value(json_object_get(entry, key));
        if (path)
            add_path(spec, path);
    }
}

static void take_edits(struct cdi_spec *spec, const json_t *edits) {
    take_paths(spec, json_object_get(edits, "deviceNodes"), "path");
    take_paths(spec, json_object_get(edits, "mounts"), "hostPath");
}

static bool take_json(struct cdi_spec *spec, const char *text, size_t len, GError **error) {
    json_t *json = jsonx_parse(text, len, error);
    const json_t *devices = json_object_get(json, "devices"), *device;
    size_t i;

    if (!json)
        return false;
    spec->kind = g_strdup(json_string_value(json_object_get(json, "kind")));
    take_edits(spec, json_object_get(json, "containerEdits"));
    json_array_foreach (devices, i, device) {
        const char *name = json_string_value(json_object_get(device, "name"));
        if (name && i < CDI_MAX_DEVICES)
            g_ptr_array_add(spec->devices, g_strdup(name));
        take_edits(spec, json_object_get(device, "containerEdits"));
    }
    json_decref(json);
    return true;
}

/* ---- YAML ---- */

struct yaml {
    struct cdi_spec *spec;
    bool in_devices;  /* below the top's "devices:" */
    int item_indent;  /* where the dashes of the devices stand; -1: none seen */
    int field_indent; /* where the fields of the current device stand */
};

/* The scalar behind "key:", without its quotes, g_free. NULL when it is none that we understand. */
static char *scalar(const char *text) {
    g_autofree char *value = g_strstrip(g_strdup(text));
    size_t len = strlen(value);
    char *comment;

    if (len >= 2 && (value[0] == '"' || value[0] == '\'')) {
        const char *end = strchr(value + 1, value[0]);
        if (!end || strchr(value, '\\'))
            return NULL;
        return g_strndup(value + 1, (gsize)(end - value - 1));
    }
    comment = strstr(value, " #");
    if (comment)
        *comment = '\0';
    if (value[0] && strchr("[{&*!|>%@`", value[0]))
        return NULL;
    return g_strdup(g_strchomp(value));
}

/* One "key: value" at its column. False: not understood. */
static bool take_pair(struct yaml *yaml, int indent, const char *key, const char *rest) {
    g_autofree char *value = scalar(rest);

    if (indent == 0) {
        yaml->in_devices = strcmp(key, "devices") == 0;
        if (yaml->in_devices)
            return value && (!value[0] || strcmp(value, "null") == 0);
        if (strcmp(key, "kind") == 0)
            yaml->spec->kind = value && !yaml->spec->kind ? g_strdup(value) : yaml->spec->kind;
        return true;
    }
    if (strcmp(key, "path") == 0 || strcmp(key, "hostPath") == 0) {
        if (value)
            add_path(yaml->spec, value);
        return value != NULL;
    }
    if (strcmp(key, "deviceNodes") == 0 || strcmp(key, "mounts") == 0 || strcmp(key, "containerEdits") == 0)
        return value && !value[0];
    if (yaml->in_devices && strcmp(key, "name") == 0 && indent == yaml->field_indent) {
        if (value && yaml->spec->devices->len < CDI_MAX_DEVICES)
            g_ptr_array_add(yaml->spec->devices, g_strdup(value));
        return value != NULL;
    }
    return true;
}

/* Splits "key: rest" or "key:"; false when the text is no such pair (a scalar of a list). */
static bool split_pair(const char *text, char **ret_key, const char **ret_rest) {
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./");

    if (len == 0 || text[len] != ':' || (text[len + 1] && text[len + 1] != ' '))
        return false;
    *ret_key = g_strndup(text, len);
    *ret_rest = text + len + 1;
    return true;
}

static bool take_line(struct yaml *yaml, const char *line) {
    int indent = (int)strspn(line, " ");
    const char *at = line + indent, *rest;
    g_autofree char *key = NULL;

    if (!at[0] || at[0] == '#' || strcmp(line, "---") == 0 || strcmp(line, "...") == 0)
        return true;
    if (at[0] == '\t' || (indent == 0 && strchr("[{\"'&*!|>%", at[0])))
        return false;
    while (at[0] == '-' && at[1] == ' ') {
        size_t step = 1 + strspn(at + 1, " ");
        if (yaml->in_devices && (yaml->item_indent < 0 || indent == yaml->item_indent)) {
            yaml->item_indent = indent;
            yaml->field_indent = indent + (int)step;
        }
        at += step;
        indent += (int)step;
    }
    return !split_pair(at, &key, &rest) || take_pair(yaml, indent, key, rest);
}

static bool take_yaml(struct cdi_spec *spec, const char *text, GError **error) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    struct yaml yaml = {spec, false, -1, -1};

    for (size_t i = 0; lines[i]; i++) {
        g_strchomp(lines[i]);
        if (!take_line(&yaml, lines[i]))
            return kr_fail(error, BAD_REQUEST, "line %zu is not in the plain style that is understood", i + 1);
    }
    return true;
}

struct cdi_spec *cdi_spec_parse(const char *text, size_t len, GError **error) {
    struct cdi_spec *spec;
    size_t start = strspn(text, " \t\r\n");
    bool ok;

    if (len > CDI_MAX_BYTES || !g_utf8_validate(text, (gssize)len, NULL)) {
        kr_fail(error, BAD_REQUEST, "too large, or no text");
        return NULL;
    }
    spec = spec_new();
    ok = text[start] == '{' ? take_json(spec, text, len, error) : take_yaml(spec, text, error);
    if (ok && (!spec->kind || !strchr(spec->kind, '/')))
        ok = kr_fail(error, BAD_REQUEST, "it names no kind");
    if (ok)
        return spec;
    cdi_spec_free(spec);
    return NULL;
}
