#pragma once
/* What a guest says of itself over its own virtio channel: lines of JSON, each with the machine's secret. It is the
 * guest's word, shown to people and believed in nothing else: a lease, a card or a proof never depends on it. The channel
 * belongs to one machine, so that none can speak for another. The agent in the guest is a POSIX shell script. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "model/guest.h"

enum { AGENT_MAX_LINE_BYTES = 16 * 1024 };

/* The pump: bytes of the channel in, reports out. What is no report, or has another secret, is passed over and counted: a guest may
 * write what it likes. Memory is bounded. */
struct agent_pump {
    const char *secret; /* borrowed */
    void (*on_report)(void *user, const struct guest_state *state);
    void *user;
    GByteArray *line;
    bool is_skipping; /* the rest of a line that is too long */
    int64_t n_refused;
};
void agent_pump_init(struct agent_pump *pump, const char *secret,
                     void (*on_report)(void *user, const struct guest_state *state), void *user);
void agent_pump_clear(struct agent_pump *pump);
void agent_pump_feed(struct agent_pump *pump, const char *bytes, size_t len);

/* One machine's channel: connects to its socket, again whenever it breaks, until it is freed. */
struct agent_link;
struct agent_link *agent_link_new(uv_loop_t *loop, int folder_fd, const char *secret,
                                  void (*on_report)(void *user, const struct guest_state *state), void *user);
/* NULL is fine. The loop must run once more. */
void agent_link_free(struct agent_link *link);
/* The newest report, borrowed; NULL: none yet, of this process at least. *ret_mono_ms: when it came. */
const struct guest_state *agent_link_state(const struct agent_link *link, int64_t *ret_mono_ms);

/* The script, with the secret in it. Caller frees. */
char *guest_agent_script(const char *secret);
