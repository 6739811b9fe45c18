#include "model/delta.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* ---- making ---- */

static bool is_list_of_objects(const json_t *json) {
    const json_t *item;
    size_t i;

    if (!json_is_array(json) || json_array_size(json) == 0)
        return false;
    json_array_foreach (json, i, item)
        if (!json_is_object(item))
            return false;
    return true;
}

static json_t *items_delta(const json_t *before, const json_t *after) {
    json_t *delta = json_object();
    const json_t *item;
    size_t i;

    json_array_foreach (after, i, item) {
        json_t *change = delta_make(json_array_get(before, i), item);
        char position[24];

        g_snprintf(position, sizeof position, "%zu", i);
        if (json_object_size(change) > 0)
            json_object_set(delta, position, change);
        json_decref(change);
    }
    return delta;
}

/* NULL when the two are equal. */
static json_t *value_delta(const json_t *before, const json_t *after) {
    if (json_equal(before, after))
        return NULL;
    if (json_is_object(before) && json_is_object(after))
        return delta_make(before, after);
    if (is_list_of_objects(before) && is_list_of_objects(after) && json_array_size(before) == json_array_size(after))
        return items_delta(before, after);
    return json_deep_copy(after);
}

json_t *delta_make(const json_t *before, const json_t *after) {
    json_t *delta = json_object(), *value;
    const char *key;

    json_object_foreach ((json_t *)(uintptr_t)after, key, value) {
        json_t *old = json_object_get(before, key);
        json_t *change = old ? value_delta(old, value) : json_deep_copy(value);

        if (change)
            json_object_set_new(delta, key, change);
    }
    json_object_foreach ((json_t *)(uintptr_t)before, key, value)
        if (!json_object_get(after, key))
            json_object_set_new(delta, key, json_null());
    return delta;
}

/* ---- applying ---- */

static bool apply_to_object(json_t *object, const json_t *delta, GError **error);

static bool apply_to_items(json_t *list, const json_t *delta, GError **error) {
    const char *key;
    json_t *change;

    json_object_foreach ((json_t *)(uintptr_t)delta, key, change) {
        guint64 position;
        json_t *item;

        if (!g_ascii_string_to_unsigned(key, 10, 0, G_MAXINT, &position, NULL) ||
            !(item = json_array_get(list, (size_t)position)) || !json_is_object(item) || !json_is_object(change))
            return kr_fail(error, BAD_REQUEST, "a difference names item \"%.32s\" of a list that has none of it", key);
        if (!apply_to_object(item, change, error))
            return false;
    }
    return true;
}

static bool apply_to_object(json_t *object, const json_t *delta, GError **error) {
    const char *key;
    json_t *change;

    json_object_foreach ((json_t *)(uintptr_t)delta, key, change) {
        json_t *old = json_object_get(object, key);

        if (json_is_null(change))
            json_object_del(object, key);
        else if (json_is_object(change) && json_is_object(old)) {
            if (!apply_to_object(old, change, error))
                return false;
        } else if (json_is_object(change) && json_is_array(old)) {
            if (!apply_to_items(old, change, error))
                return false;
        } else
            json_object_set_new(object, key, json_deep_copy(change));
    }
    return true;
}

bool delta_apply_to(json_t *document, const json_t *delta, GError **error) {
    if (!json_is_object(delta) || !json_is_object(document))
        return kr_fail(error, BAD_REQUEST, "a difference that is no object");
    return apply_to_object(document, delta, error);
}

json_t *delta_apply(const json_t *before, const json_t *delta, GError **error) {
    json_t *after = json_deep_copy(before);

    if (delta_apply_to(after, delta, error))
        return after;
    json_decref(after);
    return NULL;
}
