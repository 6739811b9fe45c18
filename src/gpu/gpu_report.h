#pragma once
/* What the worker says, decoded. A request is one line of JSON:
 *   {"id", "op":"sample", "processes":bool, "sites":bool, "slow_ms", "rare_ms"}
 *   {"id", "op":"check", "uuids":[…]}
 *   {"id", "op":"costs"}
 * the first two with "leave_out":[PCI addresses not to be touched for a while], "hands_off":[PCI addresses that are being switched, or are
 * somebody's] and "xids_after_us". The answer to these two is one line
 * (with lines {"at": PCI address} before it, see gpu_link.h)
 *   {"id", "inventory":bool, "text", "driver"?, "simulated"?, "xids_at_us"?, "cards":[{"gpu":{…}, "processes"?:[{"pid",
 *    "command","user","started_ms"?,"container"?,"memory_bytes"?}], "processes_error"?, "site"?:{…}}]}
 * where a gpu's "xids" are those that are new since the last answer. With inventory false there are no cards and text says
 * why. The answer to "costs" is {"id", "costs":[…]} as in gpu_backend.h. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "gpu/gpu_procs.h"
#include "gpu/gpu_topology.h"
#include "model/gpu.h"

struct gpu_report_card {
    struct gpu *gpu;       /* owned; index is not set */
    GArray *users;         /* of struct gpu_user; NULL when they were not asked for */
    char *users_error;     /* why the list of users cannot be complete, else NULL */
    struct gpu_site *site; /* owned; NULL when it was not asked for */
};

struct gpu_report {
    bool has_inventory;
    bool is_simulated;
    char *text;
    char *driver;       /* version; NULL when it is not known */
    int64_t xids_at_us; /* the newest XID in the kernel's log, monotonic; 0: none */
    GPtrArray *cards;   /* of struct gpu_report_card, in PCI order */
};

/* New report, or NULL with KR_ERROR_BAD_REQUEST. */
struct gpu_report *gpu_report_from_json(const json_t *json, GError **error);
void gpu_report_free(struct gpu_report *report);
struct gpu_report_card *gpu_report_card_by_uuid(const struct gpu_report *report,
                                                const char *uuid); /* borrowed, or NULL */

/* [{"pid","command","user","started_ms"?,"container"?,"memory_bytes"?}], new. */
json_t *gpu_users_to_json(const GArray *users);
/* "pid 4711 python3 (user alice) uses it and 2 more", or NULL when nobody does. Caller frees. */
char *gpu_users_to_str(const GArray *users);
