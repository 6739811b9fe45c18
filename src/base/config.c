#include "base/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/units.h"

struct value {
    char *text;
    const char *source; /* "default", "file …" (owned by config.file_source) or "option" */
    int64_t number;     /* INT, BYTES, BOOL */
    char **list;        /* LIST */
};

struct config {
    const struct config_key *keys;
    size_t n_keys;
    struct value *values; /* one per key */
    char *file_source;
};

static size_t find(const struct config *config, const char *name) {
    size_t i = 0;

    while (i < config->n_keys && strcmp(config->keys[i].name, name) != 0)
        i++;
    return i;
}

static bool choice_ok(const char *choices, const char *text) {
    g_auto(GStrv) options = g_strsplit(choices, "|", -1);

    return g_strv_contains((const char *const *)options, text);
}

static bool parse_number(const struct config_key *key, const char *text, int64_t *ret_number, GError **error) {
    char *end;

    if (key->type == CONFIG_BYTES) {
        if (!units_bytes_from_str(text, ret_number, error))
            return false;
    } else {
        errno = 0;
        *ret_number = g_ascii_strtoll(text, &end, 10);
        if (errno || end == text || *end != '\0')
            return kr_fail(error, USAGE, "\"%s\" is not a whole number", text);
    }
    if (*ret_number < key->min || *ret_number > key->max)
        return kr_fail(error, USAGE, "%s is not between %" G_GINT64_FORMAT " and %" G_GINT64_FORMAT, text, key->min,
                       key->max);
    return true;
}

static bool check(const struct config_key *key, const char *text, struct value *value, GError **error) {
    switch (key->type) {
    case CONFIG_STRING: return true;
    case CONFIG_PATH:
        return text[0] == '\0' || text[0] == '/' || kr_fail(error, USAGE, "\"%s\" is not an absolute path", text);
    case CONFIG_INT:
    case CONFIG_BYTES: return parse_number(key, text, &value->number, error);
    case CONFIG_BOOL:
        value->number = strcmp(text, "true") == 0;
        return value->number || strcmp(text, "false") == 0 ||
               kr_fail(error, USAGE, "\"%s\" is neither true nor false", text);
    case CONFIG_CHOICE:
        return choice_ok(key->choices, text) || kr_fail(error, USAGE, "\"%s\" is not one of %s", text, key->choices);
    case CONFIG_LIST:
        g_strfreev(value->list);
        value->list = text[0] ? g_strsplit(text, ";", -1) : g_new0(char *, 1);
        return true;
    }
    return false;
}

static bool set(struct config *config, const char *name, const char *text, const char *source, GError **error) {
    size_t i = find(config, name);
    g_autoptr(GError) why = NULL;

    if (i == config->n_keys)
        return kr_fail(error, USAGE, "%s: there is no setting \"%s\"", source, name);
    if (!check(&config->keys[i], text, &config->values[i], &why))
        return kr_fail(error, USAGE, "%s: %s: %s", source, name, why->message);
    g_free(config->values[i].text);
    config->values[i].text = g_strdup(text);
    config->values[i].source = source;
    return true;
}

static bool load_defaults(struct config *config, GError **error) {
    for (size_t i = 0; i < config->n_keys; i++)
        if (!set(config, config->keys[i].name, config->keys[i].fallback, "default", error))
            return false;
    return true;
}

static bool load_file(struct config *config, const char *group, const char *path, GError **error) {
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;
    g_auto(GStrv) names = NULL;

    config->file_source = g_strdup_printf("file %s", path);
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &why))
        return kr_fail(error, USAGE, "%s: %s", config->file_source, why->message);
    names = g_key_file_get_keys(file, group, NULL, NULL);
    for (char **name = names; name && *name; name++) {
        g_autofree char *text = g_key_file_get_string(file, group, *name, NULL);
        if (!set(config, *name, text ? text : "", config->file_source, error))
            return false;
    }
    return true;
}

static bool load_overrides(struct config *config, char *const *overrides, GError **error) {
    for (; overrides && *overrides; overrides++) {
        const char *equals = strchr(*overrides, '=');
        g_autofree char *name = equals ? g_strndup(*overrides, (gsize)(equals - *overrides)) : NULL;

        if (!name)
            return kr_fail(error, USAGE, "option: \"%s\" is not of the form name=value", *overrides);
        g_strdelimit(name, "-", '_');
        if (!set(config, name, equals + 1, "option", error))
            return false;
    }
    return true;
}

struct config *config_load(const struct config_key *keys, const char *group, const char *path, const char *default_path,
                           char *const *overrides, GError **error) {
    struct config *config = g_new0(struct config, 1);

    config->keys = keys;
    while (keys[config->n_keys].name)
        config->n_keys++;
    config->values = g_new0(struct value, config->n_keys);
    if (!path && default_path && g_file_test(default_path, G_FILE_TEST_EXISTS))
        path = default_path;
    if (load_defaults(config, error) && (!path || load_file(config, group, path, error)) &&
        load_overrides(config, overrides, error))
        return config;
    config_free(config);
    return NULL;
}

void config_free(struct config *config) {
    if (!config)
        return;
    for (size_t i = 0; i < config->n_keys; i++) {
        g_free(config->values[i].text);
        g_strfreev(config->values[i].list);
    }
    g_free(config->values);
    g_free(config->file_source);
    g_free(config);
}

static const struct value *get(const struct config *config, const char *name, unsigned types) {
    size_t i = find(config, name);

    g_assert(i < config->n_keys && (types & (1U << config->keys[i].type)));
    return &config->values[i];
}

const char *config_str(const struct config *config, const char *name) {
    return get(config, name, 1U << CONFIG_STRING | 1U << CONFIG_PATH | 1U << CONFIG_CHOICE)->text;
}

int64_t config_int(const struct config *config, const char *name) {
    return get(config, name, 1U << CONFIG_INT | 1U << CONFIG_BYTES)->number;
}

bool config_bool(const struct config *config, const char *name) {
    return get(config, name, 1U << CONFIG_BOOL)->number != 0;
}

char *const *config_list(const struct config *config, const char *name) {
    return get(config, name, 1U << CONFIG_LIST)->list;
}

json_t *config_to_json(const struct config *config) {
    json_t *list = json_array();

    for (size_t i = 0; i < config->n_keys; i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "key", config->keys[i].name, "value",
                                              config->values[i].text, "source", config->values[i].source, "help",
                                              config->keys[i].help));
    return list;
}
