#pragma once
/* What an owner holds: cards with all of their functions, what drove these before, and how far the switch to or from vfio-pci has
 * come. It is the journal, too: written durably before each step, one file per owner, so that after any kill the next
 * run knows what to undo (L71). Written by the switcher alone. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vfio/vfio_pci.h"

enum { VFIO_OWNER_MAX_BYTES = 63, VFIO_MAX_CARDS = 64, VFIO_REASON_MAX_BYTES = 2000 };

/* name on the wire and in the journal */
#define VFIO_STATES(X)            \
    X(IDLE, "idle")               \
    X(BINDING, "binding")         \
    X(BOUND, "bound")             \
    X(GIVING_BACK, "giving_back") \
    X(STUCK, "stuck")             \
    X(BROKEN, "broken")

enum vfio_state {
    VFIO_STATE_NONE = 0,
#define X(code, name) VFIO_##code,
    VFIO_STATES(X)
#undef X
        VFIO_STATE_COUNT_
};
const char *vfio_state_to_str(enum vfio_state state);
enum vfio_state vfio_state_from_str(const char *text); /* VFIO_STATE_NONE: unknown */

struct vfio_hold_function {
    char address[GPU_PCI_BYTES];
    unsigned class, vendor, device;
    int group;
    char former_driver[GPU_DRIVER_MAX_BYTES + 1];   /* empty: it had none */
    char former_override[GPU_DRIVER_MAX_BYTES + 1]; /* empty: none was set */
};

struct vfio_hold_gpu {
    char address[GPU_PCI_BYTES];
    int group;            /* of the GPU's own function */
    bool had_persistence; /* nvidia-persistenced held it and takes it back afterwards */
    GArray *functions;    /* of struct vfio_hold_function: the GPU, then its companions in slot order */
};

struct vfio_hold {
    char *owner;
    char *boot_id; /* of the boot that it is of; "" not known */
    enum vfio_state state;
    char *step;      /* what is being done, or was done last: "unbind 0000:41:00.1" */
    char *reason;    /* why it is stuck or broken; else "" */
    GPtrArray *gpus; /* of struct vfio_hold_gpu */
};

struct vfio_hold *vfio_hold_new(const char *owner, const char *boot_id);
void vfio_hold_free(struct vfio_hold *hold); /* NULL is fine */
/* The IOMMU groups, each once, ascending: new array of int. */
GArray *vfio_hold_groups(const struct vfio_hold *hold);
bool vfio_hold_has(const struct vfio_hold *hold, const char *address); /* also a companion */

json_t *vfio_hold_to_json(const struct vfio_hold *hold);
/* New, or NULL with KR_ERROR_BAD_REQUEST. */
struct vfio_hold *vfio_hold_from_json(const json_t *json, GError **error);
/* The cards of a preflight's answer, {"gpus": […]} in the form of the journal. */
bool vfio_hold_take_gpus(struct vfio_hold *hold, const json_t *json, GError **error);
/* The same form, of one card as it is now. Reads driver_override: for child processes only. New reference. */
struct vfio_card;
json_t *vfio_hold_gpu_of_card(const char *root, const struct vfio_card *card);

/* Letters, digits, '-', '_', '.', not beginning with '.'. KR_ERROR_BAD_REQUEST. */
bool vfio_owner_check(const char *owner, GError **error);
char *vfio_journal_path(const char *folder, const char *owner); /* g_free */
bool vfio_journal_write(const char *folder, const struct vfio_hold *hold, GError **error);
bool vfio_journal_remove(const char *folder, const char *owner, GError **error);
/* KR_ERROR_IO, KR_ERROR_BAD_REQUEST. */
struct vfio_hold *vfio_journal_read(const char *folder, const char *owner, GError **error);
/* The owners that have a journal, sorted; removes what a kill left of writing one. NULL with KR_ERROR_IO. g_strfreev. */
char **vfio_journal_owners(const char *folder, GError **error);
