#pragma once
/* What the worker says, decoded. A request is one line of JSON: {"id", "op":"sample", "processes":bool} or
 * {"id", "op":"check", "uuids":[…]}, either with "leave_out":[PCI addresses not to be touched]; the answer to both is one
 * line (with lines {"at": PCI address} before it, see gpu_link.h)
 * {"id", "inventory":bool, "text", "driver"?, "simulated"?, "cards":[{"gpu":{…}, "processes"?:[{"pid","command","user"}],
 * "processes_error"?}]}. With inventory false there are no cards and text says why. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "gpu/gpu_procs.h"
#include "model/gpu.h"

struct gpu_report_card {
    struct gpu *gpu;   /* owned; index is not set */
    GArray *users;     /* of struct gpu_user; NULL when they were not asked for */
    char *users_error; /* why the list of users cannot be complete, else NULL */
};

struct gpu_report {
    bool has_inventory;
    bool is_simulated;
    char *text;
    char *driver;     /* version; NULL when it is not known */
    GPtrArray *cards; /* of struct gpu_report_card, in PCI order */
};

/* New report, or NULL with KR_ERROR_BAD_REQUEST. */
struct gpu_report *gpu_report_from_json(const json_t *json, GError **error);
void gpu_report_free(struct gpu_report *report);
struct gpu_report_card *gpu_report_card_by_uuid(const struct gpu_report *report,
                                                const char *uuid); /* borrowed, or NULL */

/* "pid 4711 python3 (user alice) uses it and 2 more", or NULL when nobody does. Caller frees. */
char *gpu_users_to_str(const GArray *users);
