#pragma once
/* Keeps the node's own eyes off cards that machines get. The GPU worker has every card open, and one that is open cannot leave its driver:
 * so the worker ends before a bind, stays away until that bind is over, and later ones do not touch what the switcher
 * holds. That is derived from the switcher at each of its changes, so it is right after any restart too. All on the loop's thread. */

#include <glib.h>
#include <uv.h>

struct card_watch;
struct gpu_monitor;
struct vfio_switcher;
struct vfio_switcher_config;

/* on_change: some card's switch has come to another state; may be NULL. */
struct card_watch *card_watch_new(struct gpu_monitor *monitor, void (*on_change)(void *user), void *user);
void card_watch_free(struct card_watch *watch); /* after its switcher; NULL is fine */

/* vfio_switcher_new of this config, but for let_go, look_again, on_change and user, which are the watch's. The switcher is the caller's. */
struct vfio_switcher *card_watch_switcher(struct card_watch *watch, uv_loop_t *loop,
                                          const struct vfio_switcher_config *config, GError **error);
/* What is held has changed without a word, as when a recovery begins. */
void card_watch_update(struct card_watch *watch);
