#pragma once
/* The difference between two JSON documents of the same kind, so that a heartbeat carries what changed and nothing else.
 * In the manner of JSON merge patch (RFC 7396), and below arrays too: a changed member stands with its new value, a member
 * that is gone with null, a changed object with its own difference, an array of as many objects as before with an
 * object {"POSITION": difference}; any other array stands whole. Documents must not have null as a value. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

/* New reference; an empty object when nothing changed. Both are objects. */
json_t *delta_make(const json_t *before, const json_t *after);
/* `before` with the difference brought in; new reference, `before` stays as it is. NULL with KR_ERROR_BAD_REQUEST when the
 * difference does not fit. */
json_t *delta_apply(const json_t *before, const json_t *delta, GError **error);
/* The same in the document itself, at the cost of what changed alone. On failure the document is of no use any more. */
bool delta_apply_to(json_t *document, const json_t *delta, GError **error);
