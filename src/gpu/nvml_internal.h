#pragma once
/* Shared by the parts of the NVIDIA backend: nvml.c (cards and figures), nvml_processes.c, nvml_events.c (XIDs) and
 * nvml_links.c. */

#include "gpu/gpu_backend.h"
#include "gpu/nvml_library.h"

struct nvml_card { /* what stays while the handle is open */
    struct nvml_device *device;
    char uuid[NVML_TEXT_BYTES];
    char name[NVML_TEXT_BYTES];
    int minor;                     /* -1: not to be had */
    struct nvml_event_set *events; /* of this card alone, so that an error of the wait is its error; NULL: none */
    int64_t hears_since_us;        /* monotonic: when its XIDs were registered for; 0: they are not */
    bool has_asked_events;         /* whether that was tried */
};

struct gpu_backend {
    char *root;
    char *path; /* of the library */
    struct nvml_library library;
    bool is_up;           /* initialised */
    bool is_session_dead; /* some call said so: the next probe starts anew */
    char *version_text, *driver;
    GHashTable *cards; /* PCI address -> struct nvml_card; the open ones */
};

/* Judges an answer for one figure. True: the value is good. A lost card is a fault; an error of an essential figure
 * makes the card unknown; "not supported" and errors of the others leave the figure absent (L43). */
bool nvml_judge(struct gpu_backend *self, struct gpu *gpu, const char *what, int rc, bool is_essential);

/* nvml_events.c: notes what happened since the last call; never waits. *ret_tiers: figures that an event says are new. */
void nvml_events_drain(struct gpu_backend *self, struct nvml_card *card, struct gpu *gpu, unsigned *ret_tiers);
void nvml_events_close(struct gpu_backend *self, struct nvml_card *card);

/* nvml_processes.c and nvml_links.c: members of the backend. */
bool nvml_processes(struct gpu_backend *self, const struct gpu_pci_card *pci, GArray *users, char **ret_why);
void nvml_links(struct gpu_backend *self, const struct gpu_pci_card *pci, struct gpu_site *site);
