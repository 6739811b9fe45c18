#pragma once
/* What a GPU vendor's backend implements. Only the worker process (gpu_worker.c) calls it, one call at a time; any call
 * may hang or crash: the monitor kills the worker at a deadline. To add a vendor: one file with a const
 * struct gpu_backend_ops and one line in gpu_backends[] (gpu_backend.c). */

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "gpu/gpu_pci.h"
#include "model/gpu.h"

enum gpu_backend_state {
    GPU_BACKEND_UNSET = 0,
    GPU_BACKEND_ABSENT,  /* its library is not on this machine */
    GPU_BACKEND_PRESENT, /* answers */
    GPU_BACKEND_BROKEN,  /* is there and does not work: the text says why */
};

struct gpu_backend; /* a backend's own structure */

struct gpu_backend_ops {
    const char *name;          /* "nvml" */
    const char *kernel_driver; /* the driver a card must be bound to before `sample` is asked about it */
    const char *no_cards_text; /* for people: "no NVIDIA GPU on this node" */

    /* Must. Makes the backend without touching library or cards. `library` is kept by the caller. */
    struct gpu_backend *(*open)(const char *root, const char *library);
    void (*close)(struct gpu_backend *self); /* must; NULL is fine */

    /* Must. The vendor's cards in PCI order, also those that the library cannot see. New array of struct gpu_pci_card,
     * NULL with an error when no inventory can be taken. */
    GArray *(*enumerate)(struct gpu_backend *self, GError **error);

    /* Must. Brings the library up when it is not (again at every call: a driver may come later, L41). *ret_text (caller
     * frees): versions, or why it is absent or broken. *ret_driver: the driver's version, NULL unless present. */
    enum gpu_backend_state (*probe)(struct gpu_backend *self, char **ret_text, char **ret_driver);

    /* Must. Fills uuid, name, minor and figures and sets condition and reason. What cannot be read stays absent; an
     * error of this card is this card's condition and nothing else's (L57). Never asked while the probe fails. */
    void (*sample)(struct gpu_backend *self, const struct gpu_pci_card *card, struct gpu *gpu);

    /* Must. Appends the pid_t of each process that the library knows on the card; false with *ret_why (caller frees)
     * when it cannot tell. Costly (L77). */
    bool (*processes)(struct gpu_backend *self, const struct gpu_pci_card *card, GArray *pids, char **ret_why);

    /* Must. Major number of the cards' device nodes; a card's own node has the minor of gpu.minor. */
    unsigned device_major;

    bool (*is_simulated)(const struct gpu_backend *self); /* may be NULL: never */
};

extern const struct gpu_backend_ops nvml_backend_ops;

/* All backends, ends with NULL. */
extern const struct gpu_backend_ops *const gpu_backends[];
