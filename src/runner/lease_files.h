#pragma once
/* The second key of rule R1: what this node holds, in files that survive the runner and the power. One file per task,
 * leases/ID.json, is there from before anything is done for the task until the host has acknowledged its end. Beside
 * them, epochs.json keeps the highest epoch ever seen for each card and of the node as a whole, so that no older lease is ever
 * obeyed (L25), and none twice.
 * A lease file that cannot be read stops the start: what it held would otherwise look free (R3). */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/lease.h"
#include "model/task.h"

enum lease_phase {
    LEASE_ACCEPTED = 1, /* nothing was started: no container, or one that certainly never ran */
    LEASE_STARTING,     /* a container exists and may have been started */
    LEASE_ENDED,        /* `report` holds the result */
};

struct lease_file {
    enum lease_phase phase;
    struct lease lease;
    struct task_spec *spec; /* owned; NULL for one made anew from a container's labels */
    char *container;        /* owned; the engine's id, NULL before there is one */
    bool stop_requested, pause_requested;
    int64_t started_ms;        /* wall clock, 0: never found running in order */
    struct task_report report; /* valid with LEASE_ENDED; its `holding` means nothing here, its `proof` is complete
                                * when it is `released` */
};
void lease_file_clear(struct lease_file *file);

struct lease_files;

/* Makes the folder, reads epochs.json. NULL with KR_ERROR_IO, _STORAGE or _BAD_REQUEST. */
struct lease_files *lease_files_open(const char *state_dir, GError **error);
void lease_files_close(struct lease_files *files);

/* Every lease on disk: an array that owns struct lease_file. NULL when one is unreadable. */
GPtrArray *lease_files_load(struct lease_files *files, GError **error);

/* May a lease that this node does not know yet be obeyed? KR_ERROR_REFUSED when a card or the node has taken this epoch or a
 * higher one: leases come in the order of their epochs. */
bool lease_files_epoch_check(const struct lease_files *files, const struct lease *lease, GError **error);

/* No lease of this epoch or a lower one is taken from now on; durable when it returned true. */
bool lease_files_fence(struct lease_files *files, int64_t epoch, GError **error);

/* The highest epoch that this node has ever seen, 0: none. A host that has lost its memory must go on above it. */
int64_t lease_files_max_epoch(const struct lease_files *files);

/* Durable when it returned true. On failure the earlier content stands, or the new one does and may be gone after a power
 * cut: whoever tells somebody that a lease was not taken calls lease_files_undo first. */
bool lease_files_save(struct lease_files *files, const struct lease_file *file, GError **error);

/* Notes that the task's container runs and has been found in order, so that a new life of the runner need not doubt it. Not
 * durable: containers do not outlive what would lose it. lease_files_load sets started_ms from it. */
void lease_files_note_start(struct lease_files *files, uint32_t task_id, int64_t started_ms);

/* Makes sure that no file stands for a lease whose saving failed; durable when it returned true. Notes no epoch: the lease
 * was never obeyed. */
bool lease_files_undo(struct lease_files *files, uint32_t task_id, GError **error);

/* Notes the epochs, then removes the file; both durable. */
bool lease_files_remove(struct lease_files *files, const struct lease *lease, GError **error);
