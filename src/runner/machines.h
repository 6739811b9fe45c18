#pragma once
/* What makes this node run machines: QEMU as a second engine, cards that are switched to vfio-pci for it and back, the sockets of
 * machines that clients reach through the host. All on the loop's thread. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"
#include "model/guest.h"
#include "runner/tunnels.h"

struct engine;
struct machines;
struct runner;

/* Adopts the machines that run. NULL with KR_ERROR_IO or _STORAGE. */
struct machines *machines_new(struct runner *runner, GError **error);
void machines_free(struct machines *machines); /* after the executor; NULL is fine */
struct engine *machines_engine(const struct machines *machines);
/* Finishes or undoes what a kill cut off, then calls on_done once: nothing may be started before. */
void machines_recover(struct machines *machines, void (*on_done)(void *user), void *user);

/* Looks whether machines can be run here; the answer shows in the next description. */
void machines_probe(struct machines *machines);
bool machines_was_probed(const struct machines *machines);
bool machines_can_run(const struct machines *machines, const char **ret_text); /* borrowed; never NULL */
/* The switches that are not over, in the form of the journal. New reference. */
json_t *machines_switches_to_json(const struct machines *machines);
/* Brings in what the switching of a card says of it: on its way, stuck, broken. */
void machines_amend_gpu(const struct machines *machines, struct gpu *gpu);

/* What the guest of that machine (the engine's id) says, and whether it should have said more. NULL: nothing to tell. Caller frees. */
struct guest *machines_guest(const struct machines *machines, const char *container, uint32_t task_id);
/* tunnel_find for machines. */
bool machines_find_socket(struct machines *machines, const char *container, const char *to, struct tunnel_end *ret_end,
                          GError **error);
/* The disk of a machine that is off. KR_ERROR_REFUSED while something runs on it. */
bool machines_delete_disk(struct machines *machines, uint32_t vps_id, GError **error);
