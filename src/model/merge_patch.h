#pragma once
/* Differences between two JSON objects as JSON merge patches (RFC 7396): what the live stream sends. A patch holds the members
 * that changed; null: the member is gone; objects inside are patched by the same rule, everything else is replaced whole.
 * (What nodes send to the host is model/delta.h's, which also goes into lists.)
 * A null inside an object cannot be told from a member that is gone, so the objects compared here must hold none. */

#include <jansson.h>

/* What makes `after` of `before`, both objects. New reference; NULL when they are equal. */
json_t *merge_patch_make(const json_t *before, const json_t *after);
/* Changes `target`, an object, by `patch`, an object. What is taken over from the patch is a copy. */
void merge_patch_apply(json_t *target, const json_t *patch);
