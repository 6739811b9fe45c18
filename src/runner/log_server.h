#pragma once
/* Serves log_open of the host from the log store: pieces within the reader's credit, following a task while it runs. */

#include <jansson.h>
#include <stddef.h>

#include "runner/log_store.h"

struct log_server;

struct log_server_deps {
    struct log_store *logs;
    bool (*may_grow)(void *user, uint32_t task_id); /* the task's output is not complete yet */
    void (*send_text)(void *user, json_t *message); /* takes the reference */
    void (*send_binary)(void *user, const void *bytes, size_t len);
    void *user;
};

struct log_server *log_server_new(const struct log_server_deps *deps);
void log_server_free(struct log_server *server);

/* The host's messages; wrong ones are answered by log_end with an error, or ignored when they name no stream. */
void log_server_open(struct log_server *server, const json_t *message);
void log_server_credit(struct log_server *server, const json_t *message);
void log_server_close(struct log_server *server, const json_t *message);
/* The connection is gone: so are its streams. */
void log_server_reset(struct log_server *server);
/* The task's output grew, or is complete. */
void log_server_wake(struct log_server *server, uint32_t task_id);
