#pragma once
/* The worker's eyes: takes looks at the cards of all vendors and remembers between looks what need not be read again. Lives
 * in the worker process; everything here may hang. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "gpu/gpu_backend.h"

struct gpu_question {
    const json_t *uuids;     /* only these cards; NULL: all */
    const json_t *leave_out; /* PCI addresses of cards not to be touched; may be NULL */
    const json_t *hands_off; /* the same, of cards that are switched to vfio-pci and back; may be NULL */
    bool with_users, with_sites;
    int64_t slow_ms, rare_ms; /* how old figures of these tiers may be; 0: read now. Not read at all in a check */
    int64_t xids_after_us;    /* what the kernel logged until then is known */
};

/* What one look tells of one card. */
struct gpu_look {
    struct gpu_pci_card pci;
    struct gpu *gpu;
    GArray *users;     /* of struct gpu_user with pid and memory_bytes; NULL: not asked */
    bool is_answering; /* its library answered for it: its users can be asked for */
    bool is_bare;      /* no driver of its vendor has it: only its DRM nodes can be held, when another one made some */
    char *error;       /* why users are not complete */
    struct gpu_site *site; /* NULL: not asked */
    size_t backend;        /* its place in gpu_backends[] */
    dev_t nodes[GPU_MAX_NODES];
    size_t n_nodes;
};

struct gpu_looks {
    GPtrArray *list; /* of struct gpu_look, in PCI order */
    char *text;      /* versions of the libraries, or what is wrong with them */
    char *driver;    /* version; NULL: not known */
    bool is_simulated;
    int64_t xids_at_us; /* the newest XID in the kernel's log, when all until there are told; 0: none */
};

struct gpu_looker;
struct gpu_looker *gpu_looker_new(const char *root, const char *library);
void gpu_looker_free(struct gpu_looker *looker);

/* New looks, or NULL with KR_ERROR_IO when there is no inventory. `say_at` is called before each card is touched. */
struct gpu_looks *gpu_looker_look(struct gpu_looker *looker, const struct gpu_question *question,
                                  void (*say_at)(const char *address), GError **error);
void gpu_looks_free(struct gpu_looks *looks);

/* As gpu_backend.h says, of all backends together. New. */
json_t *gpu_looker_costs(const struct gpu_looker *looker);
