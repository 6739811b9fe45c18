#pragma once
/* Sockets of this node that a client reaches through the host: a machine's forwarded SSH port, its console. Each is a stream of
 * the runner's connection with credit both ways, so that neither a slow client nor a slow machine fills anybody's
 * memory. All on the loop's thread. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct link;
struct tunnels;

/* Where the socket is: a port of this node or of a machine in its own network, or the path of a UNIX socket. */
struct tunnel_end {
    char address[16]; /* IPv4 */
    int port;         /* 0: path */
    char *path;       /* owned by whoever fills it; NULL with a port */
};
/* Fills *ret_end for the task and "ssh" or "console"; KR_ERROR_NOT_FOUND, _REFUSED otherwise. */
typedef bool tunnel_find(void *user, uint32_t task_id, const char *to, struct tunnel_end *ret_end, GError **error);

struct tunnels *tunnels_new(uv_loop_t *loop, struct link *link, tunnel_find *find, void *user);
/* Closes all. The loop must run once more. NULL is fine. */
void tunnels_free(struct tunnels *tunnels);
/* The connection is gone, and every tunnel with it. */
void tunnels_reset(struct tunnels *tunnels);

/* The host's messages and frames. false with KR_ERROR_BAD_REQUEST when one cannot be read. */
bool tunnels_open(struct tunnels *tunnels, const json_t *message, GError **error);
bool tunnels_credit(struct tunnels *tunnels, const json_t *message, GError **error);
bool tunnels_close(struct tunnels *tunnels, const json_t *message, GError **error);
void tunnels_data(struct tunnels *tunnels, const void *frame, size_t len);
