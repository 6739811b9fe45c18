#pragma once
/* A virtual machine that somebody owns: a name, a disk on one node, and what it is to be started with. It lives until it is
 * deleted. While it is on there is a task with a lease (model/vm.h); what state the machine is in is derived from that task
 * and stored nowhere (R6). */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/task.h"

struct vps {
    uint32_t id;
    char *name;             /* of all machines one; VM_MAX_NAME_BYTES */
    char *target;           /* canonical "mynode::0": where its disk is and which cards it is started with */
    struct task_spec *spec; /* of each start; spec->vm is there, and spec->name is the name */
    uint32_t task_id;       /* of the newest start; 0: never */
    int64_t created_ms;
};
void vps_free(struct vps *vps); /* NULL is fine */
struct vps *vps_copy(const struct vps *vps);
/* As it is stored. New reference. */
json_t *vps_to_json(const struct vps *vps);
struct vps *vps_from_json(const json_t *json, GError **error); /* KR_ERROR_BAD_REQUEST */

enum vps_state {
    VPS_UNSET = 0,
    VPS_PENDING,      /* granted, its node has not been told yet */
    VPS_ASSIGNING,    /* its node is told */
    VPS_PROVISIONING, /* the node prepares disk and cards, and the guest starts */
    VPS_RUNNING,
    VPS_PAUSED,
    VPS_STOPPING, /* going off, or its cards are on their way back */
    VPS_STOPPED,  /* off; it holds nothing */
    VPS_FAILED,   /* off, and not because it was asked to; it holds nothing */
    VPS_LOST,     /* its node is silent; what it holds stays held */
    VPS_STATE_COUNT_
};
const char *vps_state_to_str(enum vps_state state); /* static; "unset" for 0 */
/* From the newest start (NULL: never started); is_told: its node has been sent it; is_lost: its node is silent. */
enum vps_state vps_state_of(const struct task *task, bool is_told, bool is_lost);
