#pragma once
/* Switches graphics cards to vfio-pci for a machine, and back to their own drivers. A switch is a transaction: looked at first
 * (vfio_card.h), journalled before each step (vfio_hold.h), undone when a step fails, finished or undone after a kill at any
 * point. It always ends in a state with a name; nothing is left half done and unknown.
 *
 *   idle --bind--> binding --> bound --give back--> giving_back --> idle
 *                     |                                 |
 *                     +-- a step fails: undone ---------+--> broken: the card or its driver is not as it should be
 *                     +-- a write does not return ------+--> stuck: needs a reboot, unless the write returns after all;
 *                                                            then the cards are given back
 *
 * - One switch at a time on a node; requests wait in line. An IOMMU group, and each card, has one owner (K8, L1).
 * - Writes to sysfs are done by child processes with a deadline (vfio_step.h): a driver that hangs costs a state, never
 *   the agent (R7, L70, K11). A child holds a lock of its owner's for as long as it lives, so that a later run of the agent
 *   knows of a write that is still in the kernel.
 * - driver_override comes first, so that nothing else takes a function between its unbinding and its probing.
 * - Only what was taken is given back: functions are known by PCI ids, and after a reboot nothing is written at all.
 * Everything happens on the loop's thread. Callbacks come once, and never before the call returned. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "vfio/vfio_hold.h"

struct vfio_switcher;
struct vfio_call; /* a request that has not been answered */

struct vfio_switcher_config {
    const char *root;        /* "/" or the root of a fake tree; NULL: "/" */
    const char *journal_dir; /* made when it is not there; one switcher per folder */
    const char *boot_id;     /* of this boot; NULL or "": not known */
    const char *helper;      /* runs the verb vfio-step; NULL: /proc/self/exe */
    const char *nvidia_smi;  /* tells nvidia-persistenced about one card; NULL: "nvidia-smi" */
    const char *
        hook; /* a program, run as `HOOK before-bind ADDRESS` and `HOOK after-give-back ADDRESS` for each GPU, to drain it or to make
                 DCGM let go of it; when the former fails, or a holder stays, the bind fails. NULL: none */
    int64_t step_deadline_ms; /* for one write or look; 0: 10000 */
    int64_t grace_ms;         /* after that, for a killed child to go; 0: 1000 */
    int64_t watch_ms;         /* between looks at what is stuck; 0: 1000 */
    /* The agent's own eyes are holders too: asked before the look at cards that are to be bound, so that whatever of ours has them open
     * closes them. It goes on at vfio_let_gone, or at the step's deadline, when the look names who still has them. gpus: borrowed
     * for the call, NULL-terminated. May be NULL. */
    void (*let_go)(void *user, char *const *gpus);
    /* That bind has ended, one way or the other: what it has not left idle (vfio_held_cards) must still not be opened. May be NULL. */
    void (*look_again)(void *user);
    void (*on_change)(void *user); /* the state of some card is another one; may be NULL */
    void *user;                    /* of these three */
};

/* New, or NULL with KR_ERROR_IO, KR_ERROR_STORAGE. vfio_switcher_recover must be called before anything is bound. */
struct vfio_switcher *vfio_switcher_new(uv_loop_t *loop, const struct vfio_switcher_config *config, GError **error);
/* No callbacks afterwards. A switch that is under way stays as it is; the next run finds its journal. The loop has to run until the
 * handles are closed. May be called from a callback, on_change excepted. NULL is fine. */
void vfio_switcher_free(struct vfio_switcher *s);

/* What became of each owner that had a journal. */
struct vfio_recovered {
    const char *owner;
    enum vfio_state state;        /* VFIO_BOUND: as it was; VFIO_IDLE: given back; VFIO_STUCK, VFIO_BROKEN */
    const char *reason;           /* of the latter two; else "" */
    const struct vfio_hold *hold; /* NULL when VFIO_IDLE, or when its journal cannot be read */
};
typedef void vfio_recover_cb(void *user, const struct vfio_recovered *recovered, size_t n);
/* Restores what the journals say and brings it to an end: what was bound stays bound when all of it still is; a bind that was cut off
 * is undone, a give-back finished; a journal of an earlier boot is closed without a write. Once, before the first bind. */
struct vfio_call *vfio_switcher_recover(struct vfio_switcher *s, vfio_recover_cb *on_done, void *user);

/* hold: what the owner has now, until it gives it back; borrowed for the call. NULL with an error that tells the whole story:
 * KR_ERROR_REFUSED (the preflight, or another owner), _TIMEOUT (stuck), _IO, _UNAVAILABLE (before recovery), _BAD_REQUEST,
 * _STORAGE (the journal cannot be written: nothing was done). After an error the owner holds nothing, unless vfio_state_of says
 * stuck or broken; then vfio_give_back tries again. */
typedef void vfio_bind_cb(void *user, const struct vfio_hold *hold, const GError *error);
/* Binds these GPUs, each with all functions of its slot. All or none. An owner that already has exactly these is answered with
 * them. */
struct vfio_call *vfio_bind(struct vfio_switcher *s, const char *owner, const char *const *pci_addresses, size_t n,
                            vfio_bind_cb *on_done, void *user);

typedef void vfio_give_back_cb(void *user, const GError *error);
/* Gives back all that the owner holds; one that holds nothing succeeds. With an error (KR_ERROR_TIMEOUT, _IO, _STORAGE) the cards are
 * stuck or broken and stay with their owner; a later call tries again. */
struct vfio_call *vfio_give_back(struct vfio_switcher *s, const char *owner, vfio_give_back_cb *on_done, void *user);

/* What let_go asked for is done; from within let_go, or later. Nothing when nobody waits for it. */
void vfio_let_gone(struct vfio_switcher *s);

/* No callback afterwards. A request that waits in line is dropped; a switch that is under way goes on to its end: what is
 * bound then has to be given back by its owner. NULL is fine; a call that was answered must not be cancelled. */
void vfio_call_cancel(struct vfio_call *call);

/* Whose the card (or a companion) is, NULL: nobody's. Borrowed until the loop runs. */
const char *vfio_owner_of(const struct vfio_switcher *s, const char *pci);
/* All GPUs (not their companions) that somebody holds, in whatever state: new, NULL-terminated. */
char **vfio_held_cards(const struct vfio_switcher *s);
/* What the owner holds, or NULL. Borrowed until the loop runs. */
const struct vfio_hold *vfio_hold_of(const struct vfio_switcher *s, const char *owner);
/* VFIO_IDLE for a card that nobody holds. *ret_reason (may be NULL) is borrowed until the loop runs, "" when there is none. */
enum vfio_state vfio_state_of(const struct vfio_switcher *s, const char *pci, const char **ret_reason);
/* All holds, in the form of the journal, for the node's report. New reference. */
json_t *vfio_switcher_to_json(const struct vfio_switcher *s);
