#pragma once
/* The evidence of rule R2: what a node has seen that makes a card free. A release without it is not believed, and no card
 * turns free without it. Facts hold for every card concerned, and have held in `samples` looks in a row. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

enum proof_fact {
    PROOF_NEVER_STARTED = 1 << 0,  /* no container was ever started under this lease: says it all */
    PROOF_CONTAINER_GONE = 1 << 1, /* the engine has none of that name */
    PROOF_NO_PROCESS = 1 << 2,     /* neither in NVML's lists nor in /proc/N/fd by device number (L65) */
    PROOF_MEMORY_IDLE = 1 << 3,    /* within a margin of the least that the card ever used unused */
    PROOF_DRIVER = 1 << 4,         /* bound to the driver that it is expected to have, and answering */
    PROOF_NO_XID = 1 << 5, /* no XID but an application's came between the looks (model/xid.h), or its kind has none */
};
enum { PROOF_CARD = PROOF_NO_PROCESS | PROOF_MEMORY_IDLE | PROOF_DRIVER | PROOF_NO_XID };

struct proof {
    unsigned facts; /* of enum proof_fact; 0: no evidence */
    int samples;
};

/* Does it prove that nothing of a task with this many GPUs is left? */
bool proof_of_release(const struct proof *proof, size_t n_gpus);
/* Does it prove that a card that nobody holds is at rest? */
bool proof_of_rest(const struct proof *proof);
/* "no proof of: idle memory, driver" of what PROOF_CARD lacks. Caller frees. */
char *proof_missing_to_str(const struct proof *proof, unsigned wanted);

json_t *proof_to_json(const struct proof *proof);
/* NULL json: no evidence. Facts that are not known here are passed over. KR_ERROR_BAD_REQUEST. */
bool proof_from_json(const json_t *json, struct proof *ret_proof, GError **error);
