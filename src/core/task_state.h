#pragma once
/* The life of a task as the host sees it.
 *
 *            start sent            container verified        asked to end
 *   PENDING ------------> STARTING -----------------> RUNNING ------------> STOPPING
 *      |  \                  |  \                        |  \                  |
 *      |   `-----------------+---`-----------------------+---`---------> (asked to end: STOPPING)
 *      v                     v                           v                     v
 *   COMPLETED | FAILED | KILLED: terminal, never left
 *
 * Reports are level-triggered: a host that was away sees a task jump from PENDING to COMPLETED, so every forward jump
 * is an edge; backwards there is none, and a report that would need one is out of date and changes nothing.
 * Invariant: a task that is not terminal holds its lease. The converse is not true: an ended task holds it until the
 * node proves that nothing is left on the cards (R2). */

#include <stdbool.h>

#include "model/task.h"

bool task_state_can_move(enum task_state from, enum task_state to);

/* Brings what a runner says into the record: state, times, exit code, reason, holding. Never touches holds_lease.
 * Returns true when anything changed. The epochs must be equal (asserted). */
bool task_apply_report(struct task *task, const struct task_report *report);

/* Aborts when the record breaks an invariant of this page. For tests, the simulator and every write to the store. */
void task_check(const struct task *task);
