#pragma once
/* The runner's way to the host (docs/protocol.md): joins once with the join token, keeps the credential in state_dir (mode 0600),
 * dials, says hello, and dials again with growing, jittered pauses whenever the connection is lost. Nothing that the host
 * does or fails to do ends a task. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct link;

struct link_config { /* copied */
    const char *node;
    const char *host_url;
    const char *state_dir;
    const char *join_token_file;
};

struct link_handlers {
    json_t *(*hello)(void *user); /* the members of hello besides type, protocol and version; a new reference */
    void (*on_welcome)(void *user, const char *cluster_id, int64_t heartbeat_ms);
    void (*on_message)(void *user, const char *type, const json_t *message); /* after welcome; borrowed */
    void (*on_binary)(void *user, const void *bytes, size_t len);            /* after welcome; may be NULL */
    void (*on_down)(void *user);                       /* the connection that was welcome is gone */
    void (*on_drain)(void *user);                      /* everything queued has been sent */
    void (*on_fatal)(void *user, const GError *error); /* this node has never joined and cannot: no use in going on */
};

/* Reads the credential when there is one; dials nothing yet. NULL with KR_ERROR_IO or _BAD_REQUEST when it is unreadable. */
struct link *link_new(uv_loop_t *loop, const struct link_config *config, const struct link_handlers *handlers,
                      void *user, GError **error);
/* Says good-bye; no handler is called any more. The loop must run once more. */
void link_free(struct link *link);
void link_start(struct link *link);
const char *link_cluster_id(const struct link *link); /* "" before the first join */
bool link_is_up(const struct link *link);             /* welcome was said */

/* Takes the reference. Between hello and welcome it is held back until welcome: hello may not have known it. Dropped
 * without a connection, since the next hello tells everything. */
void link_send_json(struct link *link, json_t *message);
bool link_send_binary(struct link *link, const void *bytes, size_t len); /* false: not up */
size_t link_queued_bytes(const struct link *link);
/* Says hello again, on a new connection: the full truth has changed in a way that reports cannot tell. */
void link_say_hello_again(struct link *link);
