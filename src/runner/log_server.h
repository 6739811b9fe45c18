#pragma once
/* Serves the tasks' output over the link (protocol.md, "Logs"): each stream sends as much as its reader has given credit
 * for and as the link takes without growing its queue. No sockets in here. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

struct log_server;
struct log_store;

struct log_server_ops {
    /* One message of at most WIRE_MAX_BINARY_BYTES: the stream's id and bytes. false: the link is gone, all streams end. */
    bool (*send)(void *user, const void *bytes, size_t len);
    void (*end)(void *user, uint32_t stream, const char *error); /* error may be NULL */
    bool (*is_congested)(void *user);                            /* then log_server_drained is called some time later */
    bool (*is_live)(void *user, uint32_t task_id);               /* more output may come */
};

/* `store` and `ops` outlive the server. */
struct log_server *log_server_new(struct log_store *store, const struct log_server_ops *ops, void *user);
void log_server_free(struct log_server *server);

void log_server_open(struct log_server *server, uint32_t stream, uint32_t task_id, enum engine_stream which,
                     int64_t offset, bool follow);
void log_server_credit(struct log_server *server, uint32_t stream, int64_t bytes);
void log_server_close(struct log_server *server, uint32_t stream);
/* A task's output grew or ended. */
void log_server_poke(struct log_server *server, uint32_t task_id);
void log_server_drained(struct log_server *server);
/* The link is down: all streams are forgotten. */
void log_server_reset(struct log_server *server);
