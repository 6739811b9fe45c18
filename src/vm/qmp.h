#pragma once
/* QEMU's monitor protocol as a pump: bytes in, messages out, no socket. Messages are JSON objects, one a line: a greeting
 * first, then answers (which carry the id of the command) and events, which may come before the answer of the command that
 * caused them. Memory is bounded by QMP_MAX_LINE_BYTES. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QMP_MAX_LINE_BYTES = 4 * 1024 * 1024 };

/* Everything is borrowed within the call. */
struct qmp_handlers {
    void (*on_greeting)(void *user, const char *version); /* "7.2.22" */
    /* `failure` NULL: yes, with `value`. Otherwise QEMU's own text, "CLASS: text". */
    void (*on_answer)(void *user, int64_t id, const json_t *value, const char *failure);
    void (*on_event)(void *user, const char *name, const json_t *data); /* data NULL: none */
};

struct qmp {
    const struct qmp_handlers *handlers;
    void *user;
    GByteArray *line; /* begun and not ended */
    bool is_broken;
};

void qmp_init(struct qmp *qmp, const struct qmp_handlers *handlers, void *user);
void qmp_clear(struct qmp *qmp);
/* false with KR_ERROR_IO, and for ever after, when the bytes are no such messages. A handler may not clear the pump. */
bool qmp_feed(struct qmp *qmp, const char *bytes, size_t len, GError **error);

/* One command as a line to be sent. Takes over `arguments`; NULL: none. Caller frees. */
char *qmp_command(int64_t id, const char *name, json_t *arguments);
