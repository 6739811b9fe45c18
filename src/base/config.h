#pragma once
/* Settings of a daemon: one visible table of keys per daemon (host/host_config.c, runner/runner_config.c), from which
 * the file parser, the command line options, `config show`, the man page and completion are made. A value comes from,
 * in rising order: the table's default, the INI file's group named after the daemon, an option on the command line.
 * Unknown keys and values out of range are errors that name file, key and what would be right. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum config_type {
    CONFIG_STRING = 1,
    CONFIG_PATH,   /* absolute, or empty */
    CONFIG_INT,    /* whole number within [min, max] */
    CONFIG_BYTES,  /* a size such as 512M within [min, max] */
    CONFIG_BOOL,   /* true or false */
    CONFIG_CHOICE, /* one of `choices`, separated by '|' */
    CONFIG_LIST,   /* strings separated by ';' */
};

struct config_key {
    const char *name; /* snake_case, units in the name; the option is --name with '-' for '_' */
    enum config_type type;
    const char *fallback;
    int64_t min, max; /* INT and BYTES */
    const char *choices;
    const char *help;
};

struct config;

/* `keys` ends with a row whose name is NULL and must outlive the result. `path` NULL: default_path is read if it
 * exists. `overrides` is a NULL-terminated list of "name=value" (may be NULL). New config or NULL, KR_ERROR_USAGE. */
struct config *config_load(const struct config_key *keys, const char *group, const char *path, const char *default_path,
                           char *const *overrides, GError **error);
void config_free(struct config *config);

/* Values; asking for a key that is not in the table or is of another type is a programming error (aborts). */
const char *config_str(const struct config *config, const char *name); /* STRING, PATH, CHOICE; "" when empty */
int64_t config_int(const struct config *config, const char *name);     /* INT, BYTES */
bool config_bool(const struct config *config, const char *name);
char *const *config_list(const struct config *config, const char *name);

/* [{key, value, source, help}] for `config show`; source is "default", "file PATH" or "option". New reference. */
json_t *config_to_json(const struct config *config);
