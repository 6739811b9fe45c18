#pragma once
/* A whole cluster in one process, without sockets, threads, disks or a clock of its own: the real core of the host, and on
 * each node the real executor over the real simulated engine. One seed gives one history, and each of its steps draws from
 * a stream of its own: leaving steps out changes nothing of what the others decide. What is true is what runs in the nodes'
 * engines; world_check compares everybody else's opinion with that. */

#include <stdbool.h>
#include <stdint.h>

struct world;

/* How often each kind of thing happened, for "the test does what it says". */
struct world_counts {
    unsigned starts, refusals, crashes, runner_deaths, deaths_at_writes, reboots, restored, calms;
};

struct world *world_new(uint64_t seed);
void world_free(struct world *world);
/* The step of this number, one random event: a message arrives, timers of a node run, a submission, a kill, a commit
 * succeeds or fails, a fault of any kind. */
void world_step(struct world *world, unsigned number);
/* Lets everything come to rest and end: no faults, no new work. Checks that nothing is held then, anywhere. */
void world_settle(struct world *world);
/* Aborts, naming what is wrong, when an invariant is broken. */
void world_check(struct world *world);
const struct world_counts *world_count(const struct world *world);
