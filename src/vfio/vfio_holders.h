#pragma once
/* Who has a device of a function open: the nodes of its DRM, sound and NVIDIA devices, found by number among the open
 * descriptors of every process. A driver that is unbound while somebody holds a node waits for them for ever (L68, L70), so this
 * is asked before. Services that are no use of a card elsewhere (nvidia-persistenced, DCGM, this program's own worker) do
 * count here: the kernel does not tell them apart. Reads /proc of all processes: for child processes only. */

#include <glib.h>
#include <stdbool.h>

#include "gpu/gpu_procs.h"
#include "vfio/vfio_pci.h"

enum { VFIO_UNIT_BYTES = 128, VFIO_MAX_HOLDERS = 64 };

struct vfio_holder {
    struct gpu_user user;
    char unit[VFIO_UNIT_BYTES]; /* its systemd unit, "gdm.service"; empty: none */
    char node[64];              /* what it holds: "drm/card0" */
};

/* New array of struct vfio_holder, by pid, one per process; empty when nobody holds it. */
GArray *vfio_holders_of(const char *root, const struct vfio_function *function);
/* "pid 4711 nvidia-persiste (root, unit nvidia-persistenced.service)"; g_free. */
char *vfio_holder_to_str(const struct vfio_holder *holder);
json_t *vfio_holder_to_json(const struct vfio_holder *holder);
/* What to do about it: static. */
const char *vfio_holder_fix(const struct vfio_holder *holder);
/* nvidia-persistenced, which lets go of one card when it is told to. */
bool vfio_holder_is_persistence(const struct vfio_holder *holder);
/* NVIDIA's Data Center GPU Manager, which holds all cards that it was started with. */
bool vfio_holder_is_dcgm(const struct vfio_holder *holder);
