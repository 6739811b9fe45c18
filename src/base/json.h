#pragma once
/* Reading JSON that comes from outside. jansson does the parsing; here are the limits it lacks (depth, size, unknown
 * members) and a reader whose first complaint sticks, so that a decoder is a list of fields followed by one check. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { JSONX_MAX_DEPTH = 32 };

/* Parses exactly one JSON value (RFC 8259, duplicate members rejected, depth <= JSONX_MAX_DEPTH). New reference, or
 * NULL with KR_ERROR_BAD_REQUEST naming line and column. */
json_t *jsonx_parse(const char *text, size_t len, GError **error);

/* Compact text, caller frees with g_free. Members keep the order in which they were set. */
char *jsonx_to_str(const json_t *value);

/* A sticky reader over one object. `where` opens every message ("task.spec: …"). Values returned are borrowed from
 * `obj`. After the first failure every call returns the default and leaves the first message in place. */
struct json_reader {
    const json_t *obj;
    const char *where;
    GError **error;
    bool failed;
    unsigned seen; /* members looked at and present; compared with the object's size by jr_done */
};

/* A non-object is a failure at once. `error` may be NULL. */
struct json_reader jr_init(const json_t *obj, const char *where, GError **error);

const char *jr_str(struct json_reader *r, const char *key, size_t max_bytes); /* required */
const char *jr_str_opt(struct json_reader *r, const char *key, size_t max_bytes, const char *fallback);
int64_t jr_int(struct json_reader *r, const char *key, int64_t min, int64_t max); /* required */
int64_t jr_int_opt(struct json_reader *r, const char *key, int64_t min, int64_t max, int64_t fallback);
/* true when the member is there and right. */
bool jr_int_if(struct json_reader *r, const char *key, int64_t min, int64_t max, int64_t *ret_value);
double jr_real_opt(struct json_reader *r, const char *key, double min, double max, double fallback);
bool jr_bool_opt(struct json_reader *r, const char *key, bool fallback);
const json_t *jr_array_opt(struct json_reader *r, const char *key, size_t max_items);  /* NULL when absent */
const json_t *jr_array(struct json_reader *r, const char *key, size_t max_items);      /* required */
const json_t *jr_object_opt(struct json_reader *r, const char *key, size_t max_items); /* NULL when absent */
const json_t *jr_object(struct json_reader *r, const char *key, size_t max_items);     /* required */
/* A NULL-terminated copy (g_strfreev) of an array of strings; an absent member is an empty list. */
char **jr_strv_opt(struct json_reader *r, const char *key, size_t max_items, size_t max_bytes);

/* Marks the object as wrong: for checks that the calls above cannot express. Keeps an earlier message. */
void jr_fail(struct json_reader *r, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* True when nothing failed. jr_done_strict also refuses members that nobody asked for (a client's typing mistake);
 * between host and runner jr_done is used, so that a newer side may say more. */
bool jr_done(struct json_reader *r);
bool jr_done_strict(struct json_reader *r);
