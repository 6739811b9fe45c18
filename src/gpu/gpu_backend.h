#pragma once
/* What a GPU vendor's backend implements. Only the worker process (gpu_worker.c) calls it, one call at a time; any call
 * may hang or crash: the monitor kills the worker at a deadline. The inventory is not a backend's business: it comes from
 * sysfs (gpu_pci.h), for all vendors at once. To add a vendor: one file with a const struct gpu_backend_ops, one line in
 * gpu_backends[] (gpu_backend.c), one in the table of vendors of gpu_pci.c. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "gpu/gpu_pci.h"
#include "gpu/gpu_procs.h"
#include "gpu/gpu_topology.h"
#include "model/gpu.h"

enum gpu_backend_state {
    GPU_BACKEND_UNSET = 0,
    GPU_BACKEND_ABSENT,  /* its library is not on this machine */
    GPU_BACKEND_PRESENT, /* answers */
    GPU_BACKEND_BROKEN,  /* is there and does not work: the text says why */
};

/* Figures are read in tiers, because some cost the driver thousands of times what others do (L77). Events and whatever decides
 * on the card's condition are looked at in every call. */
enum gpu_tier {
    GPU_TIER_FAST = 1 << 0, /* utilisation and memory */
    GPU_TIER_SLOW = 1 << 1, /* power, temperature, clocks, what the driver asks for */
    GPU_TIER_RARE = 1 << 2, /* ECC, remapped rows, the PCIe link */
    GPU_TIER_ALL = GPU_TIER_FAST | GPU_TIER_SLOW | GPU_TIER_RARE,
};
/* The tier of a figure; 0: it belongs to none, and is set at each look. */
unsigned gpu_figure_tier(enum gpu_figure figure);

enum { GPU_MAX_NODES = 4 };

struct gpu_backend; /* a backend's own structure */

struct gpu_backend_ops {
    const char *name;    /* "nvml" */
    unsigned pci_vendor; /* whose cards it knows */
    const char
        *kernel_drivers[3]; /* a card must be bound to one of them before `sample` is asked about it; NULL ends */

    /* Must. Makes the backend without touching library or cards. `library` is kept by the caller. */
    struct gpu_backend *(*open)(const char *root, const char *library);
    void (*close)(struct gpu_backend *self); /* must; NULL is fine */

    /* Must. Brings the library up when it is not (again at every call: a driver may come later, L41). *ret_text (caller
     * frees): versions, or why it is absent or broken. *ret_driver: the driver's version where baselines depend on it, else
     * untouched. */
    enum gpu_backend_state (*probe)(struct gpu_backend *self, char **ret_text, char **ret_driver);

    /* Must. Fills uuid, name, minor and the figures of `tiers`, notes XIDs that are new since the last call, and sets
     * condition and reason. What cannot be read stays absent; an error of this card is this card's condition and nothing
     * else's (L57). Never asked while the probe fails. */
    void (*sample)(struct gpu_backend *self, const struct gpu_pci_card *card, unsigned tiers, struct gpu *gpu);

    /* Must. Appends a struct gpu_user with pid and memory_bytes for each process that the library knows on the card;
     * false with *ret_why (caller frees) when it cannot tell. Costly (L77). */
    bool (*processes)(struct gpu_backend *self, const struct gpu_pci_card *card, GArray *users, char **ret_why);

    /* Must. The device nodes whose open descriptors are a use of this card; how many. 0: not known. */
    size_t (*nodes)(struct gpu_backend *self, const struct gpu_pci_card *card, const struct gpu *gpu,
                    dev_t ret_nodes[GPU_MAX_NODES]);

    /* May be NULL: it has none. Monotonic microseconds since which `sample` hears of the card's XIDs; 0: it does not. */
    int64_t (*hears_xids_since_us)(struct gpu_backend *self, const struct gpu_pci_card *card);

    /* May be NULL: it has none. The card's direct links to others. */
    void (*links)(struct gpu_backend *self, const struct gpu_pci_card *card, struct gpu_site *site);

    /* May be NULL: it makes no calls that are worth counting. [{"function", "count", "total_us", "max_us"}], new. */
    json_t *(*costs)(const struct gpu_backend *self);

    bool (*is_simulated)(const struct gpu_backend *self); /* may be NULL: never */
};

extern const struct gpu_backend_ops nvml_backend_ops;
extern const struct gpu_backend_ops amd_backend_ops;
extern const struct gpu_backend_ops intel_backend_ops;

/* All backends, ends with NULL. */
enum { GPU_BACKEND_COUNT = 3 };
extern const struct gpu_backend_ops *const gpu_backends[GPU_BACKEND_COUNT + 1];
