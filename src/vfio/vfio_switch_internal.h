#pragma once
/* Shared by vfio_switch.c (requests, what is held) and vfio_plan.c (the steps of one switch). */

#include "vfio/vfio_child.h"
#include "vfio/vfio_switch.h"

enum vfio_call_kind { VFIO_CALL_BIND = 1, VFIO_CALL_GIVE_BACK, VFIO_CALL_RECOVER_ONE, VFIO_CALL_RECOVER_END };

struct vfio_call {
    struct vfio_switcher *s;
    enum vfio_call_kind kind;
    char *owner; /* owned; NULL at the end of a recovery */
    char **gpus; /* owned; of a bind */
    vfio_bind_cb *on_bound;
    vfio_give_back_cb *on_given_back;
    vfio_recover_cb *on_recovered;
    void *user;
    bool is_cancelled;
    bool has_let_go; /* the agent was asked to let go for it */
    char *failure;   /* owned; why a bind is being undone */
};

/* How a plan ended. */
enum vfio_plan_end { VFIO_PLAN_DONE = 1, VFIO_PLAN_FAILED, VFIO_PLAN_STUCK };

struct vfio_op {
    int kind; /* index into the table of vfio_plan.c */
    const struct vfio_hold_gpu *gpu;
    const struct vfio_hold_function *function; /* NULL where the step is about the card, or about all */
    bool is_started;                           /* its child was: now the step judges what came of it */
};

struct vfio_switcher {
    uv_loop_t *loop;
    struct vfio_switcher_config config; /* its strings are owned */
    GHashTable *holds;                  /* owner -> struct vfio_hold, owned */
    GQueue *requests;                   /* of struct vfio_call, owned */
    struct vfio_call *active;           /* owned */
    GPtrArray *recovered;               /* names of owners, until the recovery is told */
    uv_timer_t kick, watch, wait;
    int n_open; /* handles */
    bool is_recovery_asked, is_closing;
    bool is_waiting_to_look; /* until the agent has let go of the cards */
    bool is_own_helper;      /* writes need no program then */

    struct vfio_child *child; /* of the step that is under way */
    GPtrArray *stuck;         /* of struct vfio_child: to be reaped */

    /* The plan that is under way. */
    struct vfio_hold *hold; /* borrowed from `holds` */
    GArray *ops;            /* of struct vfio_op */
    guint pos;
    bool is_giving_back;
    GString *trouble;    /* why it fails; empty: nothing did so far */
    char *write_trouble; /* of the last write that failed */
    int64_t lock_until_ms;
    void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end);
};

/* vfio_plan.c. Both end with on_plan, not before they return. The hold's state, step and reason are written by them. */
void vfio_plan_bind(struct vfio_switcher *s, struct vfio_hold *hold,
                    void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end));
void vfio_plan_give_back(struct vfio_switcher *s, struct vfio_hold *hold,
                         void (*on_plan)(struct vfio_switcher *s, enum vfio_plan_end end));
/* Ends what waits, without on_plan. */
void vfio_plan_abandon(struct vfio_switcher *s);
/* true: nobody of an earlier step is in the kernel for this owner. *ret_fd (may be NULL) holds the lock, the caller closes it. */
bool vfio_plan_lock(const struct vfio_switcher *s, const char *owner, int *ret_fd);
bool vfio_plan_is_all_bound(const struct vfio_switcher *s, const struct vfio_hold *hold);
/* Starts `vfio-step preflight`; the child is s->child. mode: as vfio_step.h says, NULL: the plain one. */
void vfio_plan_preflight(struct vfio_switcher *s, char *const *gpus, const char *mode, vfio_child_cb *on_done);
/* The answer of a helper as JSON, or NULL with the reason why there is none. New reference. */
json_t *vfio_plan_answer(const struct vfio_switcher *s, const struct vfio_child_result *result, GError **error);
void vfio_plan_set_state(struct vfio_switcher *s, struct vfio_hold *hold, enum vfio_state state, const char *reason);
