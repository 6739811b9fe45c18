#pragma once
/* The host's messages about tasks, as calls of the executor. Without a connection, so that whatever carries them can be
 * put before it. */

#include <glib.h>
#include <jansson.h>

struct executor;

enum executor_word {
    EXECUTOR_WORD_TAKEN = 1,
    EXECUTOR_WORD_BAD,     /* cannot be read: KR_ERROR_BAD_REQUEST, nothing was done */
    EXECUTOR_WORD_UNKNOWN, /* none about tasks */
};
/* `type` is the message's own (model/wire.h). */
enum executor_word executor_take_word(struct executor *executor, const char *type, const json_t *message,
                                      GError **error);
