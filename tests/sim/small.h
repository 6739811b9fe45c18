#pragma once
/* A cluster that is small enough to be explored whole: the real controller, a store that is an array, and two nodes of one
 * GPU each that follow docs/protocol.md in the plainest way. Nothing happens by itself and nothing by chance: what can happen
 * next is a set of numbered actions, and the same actions give the same state. Three submissions are there to be made: task
 * for n0's card, for n1's card, and for n0's card again.
 *
 * Faults are counted: a failed write, a kill -9 of the host (with or without the oldest record on its way on the disk), a cut,
 * a silence beyond offline_after, an order to release without proof, a reboot. One history has at most `max_faults` of them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct small;

enum { SMALL_NODES = 2, SMALL_TASKS = 3 };

/* Those of a node or a task are followed by the others' in order. */
enum small_action {
    SMALL_SUBMIT = 0,                              /* one per submission; can be repeated until it was granted */
    SMALL_TO_NODE = SMALL_SUBMIT + SMALL_TASKS,    /* the host's oldest message reaches node i */
    SMALL_TO_HOST = SMALL_TO_NODE + SMALL_NODES,   /* node i's oldest message reaches the host */
    SMALL_COMMIT = SMALL_TO_HOST + SMALL_NODES,    /* the oldest record is durable */
    SMALL_TICK,                                    /* only when a record has failed: the core does nothing else in it */
    SMALL_CONNECT,                                 /* node i says hello */
    SMALL_BEAT = SMALL_CONNECT + SMALL_NODES,      /* node i sends a heartbeat */
    SMALL_END = SMALL_BEAT + SMALL_NODES,          /* task t's container ends, its card is at rest */
    SMALL_END_DIRTY = SMALL_END + SMALL_TASKS,     /* the same, and the memory is not back yet */
    SMALL_DRAINED = SMALL_END_DIRTY + SMALL_TASKS, /* now it is */
    SMALL_KILL = SMALL_DRAINED + SMALL_TASKS,      /* a user's wish for task t */
    SMALL_PAUSE = SMALL_KILL + SMALL_TASKS,        /* the first task's pause, then its resume */
    SMALL_FAIL,                                    /* from here on: faults. The oldest record cannot be written */
    SMALL_CRASH,                                   /* kill -9 of the host, nothing that was on its way is on the disk */
    SMALL_CRASH_WRITTEN,                           /* the oldest record is, and nobody was told */
    SMALL_CUT,                                     /* of the connection with node i; what was in it is lost */
    SMALL_SILENCE = SMALL_CUT + SMALL_NODES,       /* nobody is heard for longer than offline_after */
    SMALL_RELEASE,                                 /* the first task's lease is given up by order */
    SMALL_REBOOT,                                  /* of n0 */
    SMALL_ACTIONS
};

struct small *small_new(unsigned max_faults);
void small_free(struct small *small);
/* Bit a: action a is possible now. One that changes nothing may be among them. */
uint64_t small_enabled(const struct small *small);
void small_do(struct small *small, unsigned action);
/* Static text, as "kill -9 of the host". */
const char *small_action_text(unsigned action);

enum { SMALL_DIGEST_BYTES = 16 };
/* Of everything that can make a difference later. */
void small_digest(const struct small *small, uint8_t ret_digest[static SMALL_DIGEST_BYTES]);

/* Aborts when a rule is broken. */
void small_check(const struct small *small);
/* No faults and no new work, until everything has come to rest: aborts when a task does not end, or a lease or a card stays
 * behind. The cluster can only be freed afterwards. */
void small_settle(struct small *small);
