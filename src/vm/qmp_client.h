#pragma once
/* One monitor of one running QEMU. Connects to the socket (again and again until somebody greets, for QEMU needs a moment to
 * make it), agrees on the protocol, sends commands in the order given, passes events on. After the end of the
 * connection every waiting command fails and nothing can be asked any more. All on the loop's thread. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct qmp_client;

typedef void qmp_answer_cb(void *user, const json_t *value, const GError *error);

struct qmp_client_handlers {
    void (*on_ready)(void *user); /* commands may be given; those given before were kept */
    void (*on_event)(void *user, const char *name, const json_t *data);
    void (*on_closed)(void *user, const GError *error); /* once, and only after qmp_client_new; the end */
};

/* `folder_fd` is the folder in which `socket` lies, borrowed until the client is freed: paths of any length are
 * reached so. Gives up (on_closed) when nobody has greeted for deadline_ms. */
struct qmp_client *qmp_client_new(uv_loop_t *loop, int folder_fd, const char *socket, int64_t deadline_ms,
                                  const struct qmp_client_handlers *handlers, void *user);
/* NULL is fine. No callback afterwards; may be called within any. The loop must run once more. */
void qmp_client_free(struct qmp_client *client);

bool qmp_client_is_ready(const struct qmp_client *client);
/* Takes over `arguments` (NULL: none). KR_ERROR_REFUSED is QEMU's own answer, KR_ERROR_TIMEOUT none within deadline_ms,
 * KR_ERROR_IO the connection's end. on_done may be NULL; it comes once, never before this returned. */
void qmp_client_ask(struct qmp_client *client, const char *name, json_t *arguments, int64_t deadline_ms,
                    qmp_answer_cb *on_done, void *user);
