#include "model/merge_patch.h"

#include <stdint.h>

static void note(json_t **patch, const char *key, json_t *value) {
    if (!*patch)
        *patch = json_object();
    json_object_set_new(*patch, key, value);
}

json_t *merge_patch_make(const json_t *before, const json_t *after) {
    json_t *patch = NULL, *value;
    const char *key;

    json_object_foreach ((json_t *)(uintptr_t)after, key, value) {
        const json_t *old = json_object_get(before, key);

        if (json_is_object(old) && json_is_object(value)) {
            json_t *inner = merge_patch_make(old, value);
            if (inner)
                note(&patch, key, inner);
        } else if (!old || !json_equal(old, value)) {
            note(&patch, key, json_deep_copy(value));
        }
    }
    json_object_foreach ((json_t *)(uintptr_t)before, key, value)
        if (!json_object_get(after, key))
            note(&patch, key, json_null());
    return patch;
}

void merge_patch_apply(json_t *target, const json_t *patch) {
    json_t *value;
    const char *key;

    json_object_foreach ((json_t *)(uintptr_t)patch, key, value) {
        json_t *old;

        if (json_is_null(value)) {
            json_object_del(target, key);
        } else if (!json_is_object(value)) {
            json_object_set_new(target, key, json_deep_copy(value));
        } else {
            old = json_object_get(target, key);
            if (!json_is_object(old)) {
                old = json_object();
                json_object_set_new(target, key, old);
            }
            merge_patch_apply(old, value); /* into a new object too: nulls inside are no members */
        }
    }
}
