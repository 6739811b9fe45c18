#pragma once
/* The runner's one connection to the host: joins (token -> credential of its own, kept 0600), dials, says hello, and
 * dials again with growing, jittered pauses whenever it breaks. What is said is the owner's business. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct link;

struct link_deps {
    uv_loop_t *loop;
    const char *host_url;        /* http:// or https:// */
    const char *node_name;
    const char *credential_file; /* made by joining */
    const char *join_token_file;
    /* The content of the next hello: "node" and "tasks". New reference. */
    json_t *(*hello)(void *user);
    void (*on_welcome)(void *user, const char *cluster_id, int64_t heartbeat_ms);
    void (*on_message)(void *user, const char *type, const json_t *message);
    void (*on_down)(void *user); /* after a welcome: nothing can be sent until the next one */
    /* The first join was refused, so there is nothing that this process can do: it should end with this error. */
    void (*on_hopeless)(void *user, const GError *error);
    void *user;
};

/* Begins at once. */
struct link *link_new(const struct link_deps *deps);
void link_free(struct link *link);

bool link_is_up(const struct link *link); /* welcome was received */
/* Takes the reference; dropped unless up (the next hello tells all). */
void link_send(struct link *link, json_t *message);
void link_send_binary(struct link *link, const void *bytes, size_t len);
