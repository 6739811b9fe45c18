#pragma once
/* A whole cluster in one process, without clocks, threads or disks: the real controller, a store that is an array, a
 * network of queues that can be cut at any time, and nodes that follow docs/protocol.md in the plainest way. What is
 * true is what the nodes' containers say: world_check compares everybody else's opinion with that. One seed gives one
 * history. */

#include <stdbool.h>
#include <stdint.h>

struct world;

struct world *world_new(uint64_t seed);
void world_free(struct world *world);
/* One random event: a message arrives, a submission, a kill, a container ends, a commit succeeds or fails, a cut, a
 * restart of the host or of a node. */
void world_step(struct world *world);
/* Lets everything come to rest: no faults, no new work. */
void world_settle(struct world *world);
/* Aborts with the seed and step when an invariant is broken. */
void world_check(struct world *world);
/* After world_settle: everything ended, nothing is held. */
void world_check_settled(struct world *world);
/* How often each kind of thing happened, for "the test does what it says". */
unsigned world_count_starts(const struct world *world);
unsigned world_count_refusals(const struct world *world);
unsigned world_count_crashes(const struct world *world);
