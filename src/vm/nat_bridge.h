#pragma once
/* Makes the machines' own network on the node what it has to be: the bridge with its address (rtnetlink, by libmnl), forwarding, the
 * packet filter (nft), and leave to pass where Docker drops what it does not know (its chain DOCKER-USER). Idempotent: done
 * before each start of a machine that needs it, so that what somebody has flushed meanwhile comes back. Nothing is taken away
 * when the runner ends, as machines run on. All on the loop's thread. */

#include <glib.h>
#include <uv.h>

#include "vm/nat.h"

struct nat_bridge_call;
/* KR_ERROR_REFUSED: a link of that name is there and is none of ours, or the kernel or nft say no. */
typedef void nat_bridge_cb(void *user, const GError *error);

/* Never NULL. on_done comes once, never before this returned. `net` is borrowed until then. */
struct nat_bridge_call *nat_bridge_ensure(uv_loop_t *loop, const struct nat_net *net, nat_bridge_cb *on_done,
                                          void *user);
/* No callback. NULL is fine. The loop must run once more. */
void nat_bridge_cancel(struct nat_bridge_call *call);
