#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* jansson's own limit (2048) is a compile-time constant, so nesting is measured before parsing. */
static bool depth_ok(const char *text, size_t len) {
    int depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSONX_MAX_DEPTH)
                return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

json_t *jsonx_parse(const char *text, size_t len, GError **error) {
    json_error_t why;
    json_t *value;

    if (!depth_ok(text, len)) {
        kr_fail(error, BAD_REQUEST, "JSON is nested deeper than %d levels", JSONX_MAX_DEPTH);
        return NULL;
    }
    value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!value)
        kr_fail(error, BAD_REQUEST, "not valid JSON: %s (line %d, column %d)", why.text, why.line, why.column);
    return value;
}

char *jsonx_to_str(const json_t *value) {
    char *dumped = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *copy = g_strdup(dumped);

    free(dumped);
    return copy;
}

struct json_reader jr_init(const json_t *obj, const char *where, GError **error) {
    struct json_reader r = {.obj = obj, .where = where, .error = error};

    if (!json_is_object(obj))
        jr_fail(&r, "must be an object");
    return r;
}

void jr_fail(struct json_reader *r, const char *format, ...) {
    va_list args;
    g_autofree char *text = NULL;

    if (r->failed)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    r->failed = true;
    kr_fail(r->error, BAD_REQUEST, "%s: %s", r->where, text);
}

/* The member, NULL when absent (null counts as absent) or when something failed before. */
static const json_t *member(struct json_reader *r, const char *key, bool required) {
    const json_t *value;

    if (r->failed)
        return NULL;
    value = json_object_get(r->obj, key);
    if (value)
        r->seen++;
    if (!value || json_is_null(value)) {
        if (required)
            jr_fail(r, "\"%s\" is missing", key);
        return NULL;
    }
    return value;
}

static const char *check_str(struct json_reader *r, const char *key, const json_t *value, size_t max_bytes) {
    if (!json_is_string(value)) {
        jr_fail(r, "\"%s\" must be a string", key);
        return NULL;
    }
    if (json_string_length(value) > max_bytes) {
        jr_fail(r, "\"%s\" has %zu bytes, at most %zu are accepted", key, json_string_length(value), max_bytes);
        return NULL;
    }
    return json_string_value(value);
}

const char *jr_str(struct json_reader *r, const char *key, size_t max_bytes) {
    const json_t *value = member(r, key, true);
    const char *s = value ? check_str(r, key, value, max_bytes) : NULL;

    return s ? s : "";
}

const char *jr_str_opt(struct json_reader *r, const char *key, size_t max_bytes, const char *fallback) {
    const json_t *value = member(r, key, false);
    const char *s = value ? check_str(r, key, value, max_bytes) : NULL;

    return s ? s : fallback;
}

static int64_t check_int(struct json_reader *r, const char *key, const json_t *value, int64_t min, int64_t max,
                         int64_t fallback) {
    int64_t n;

    if (!json_is_integer(value)) {
        jr_fail(r, "\"%s\" must be a whole number", key);
        return fallback;
    }
    n = json_integer_value(value);
    if (n < min || n > max) {
        jr_fail(r, "\"%s\" is %" PRId64 ", it must lie between %" PRId64 " and %" PRId64, key, n, min, max);
        return fallback;
    }
    return n;
}

int64_t jr_int(struct json_reader *r, const char *key, int64_t min, int64_t max) {
    const json_t *value = member(r, key, true);

    return value ? check_int(r, key, value, min, max, min) : min;
}

int64_t jr_int_opt(struct json_reader *r, const char *key, int64_t min, int64_t max, int64_t fallback) {
    const json_t *value = member(r, key, false);

    return value ? check_int(r, key, value, min, max, fallback) : fallback;
}

bool jr_int_if(struct json_reader *r, const char *key, int64_t min, int64_t max, int64_t *ret_value) {
    const json_t *value = member(r, key, false);

    if (!value)
        return false;
    *ret_value = check_int(r, key, value, min, max, min);
    return !r->failed;
}

double jr_real_opt(struct json_reader *r, const char *key, double min, double max, double fallback) {
    const json_t *value = member(r, key, false);
    double n;

    if (!value)
        return fallback;
    if (!json_is_number(value)) {
        jr_fail(r, "\"%s\" must be a number", key);
        return fallback;
    }
    n = json_number_value(value);
    if (n >= min && n <= max)
        return n;
    jr_fail(r, "\"%s\" is %g, it must lie between %g and %g", key, n, min, max);
    return fallback;
}

bool jr_bool_opt(struct json_reader *r, const char *key, bool fallback) {
    const json_t *value = member(r, key, false);

    if (!value)
        return fallback;
    if (!json_is_boolean(value)) {
        jr_fail(r, "\"%s\" must be true or false", key);
        return fallback;
    }
    return json_is_true(value);
}

static const json_t *container(struct json_reader *r, const char *key, size_t max_items, bool required, bool array) {
    const json_t *value = member(r, key, required);
    size_t items;

    if (!value)
        return NULL;
    if (array ? !json_is_array(value) : !json_is_object(value)) {
        jr_fail(r, "\"%s\" must be %s", key, array ? "a list" : "an object");
        return NULL;
    }
    items = array ? json_array_size(value) : json_object_size(value);
    if (items > max_items) {
        jr_fail(r, "\"%s\" has %zu entries, at most %zu are accepted", key, items, max_items);
        return NULL;
    }
    return value;
}

const json_t *jr_array_opt(struct json_reader *r, const char *key, size_t max_items) {
    return container(r, key, max_items, false, true);
}

const json_t *jr_array(struct json_reader *r, const char *key, size_t max_items) {
    return container(r, key, max_items, true, true);
}

const json_t *jr_object_opt(struct json_reader *r, const char *key, size_t max_items) {
    return container(r, key, max_items, false, false);
}

const json_t *jr_object(struct json_reader *r, const char *key, size_t max_items) {
    return container(r, key, max_items, true, false);
}

char **jr_strv_opt(struct json_reader *r, const char *key, size_t max_items, size_t max_bytes) {
    const json_t *list = jr_array_opt(r, key, max_items);
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        const char *s = check_str(r, key, item, max_bytes);
        if (!s)
            break;
        g_strv_builder_add(builder, s);
    }
    return g_strv_builder_end(builder);
}

bool jr_done(struct json_reader *r) { return !r->failed; }

bool jr_done_strict(struct json_reader *r) {
    if (!r->failed && r->seen < json_object_size(r->obj))
        jr_fail(r, "has %zu member(s) that are not known here", json_object_size(r->obj) - r->seen);
    return !r->failed;
}
