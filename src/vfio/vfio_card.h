#pragma once
/* A GPU as it would be passed to a machine: all functions of its slot, its IOMMU group and who else is in it, who holds it, and what
 * stands against it. The same look makes the verdicts of `qemu check` and the preflight of a bind, so that the two cannot
 * differ. Only functions of a card's own slot are ever taken along (L69, K8): any other endpoint of the group is refused
 * by name, unless it belongs to a card that the caller names too. Reads /proc of all processes, and configuration spaces:
 * for child processes only. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "vfio/vfio_holders.h"
#include "vfio/vfio_pci.h"

/* id, does it stand against a bind, what to do. Each id has a section in docs/gpu-passthrough.md. */
#define VFIO_OBSTACLES(X)                                                                                            \
    X(NOT_FOUND, "not_found", true, "look for the card with `kohakuriver qemu check`, or rescan the bus")            \
    X(NOT_A_GPU, "not_a_gpu", true, "name the GPU's own function; its companions are taken along")                   \
    X(OFF_THE_BUS, "off_the_bus", true, "reboot the node; see the kernel's log for why the card left")               \
    X(NO_GROUP, "no_iommu_group", true, "switch the IOMMU on: see `iommu`")                                          \
    X(FOREIGN, "foreign_in_group", true, "move one of the two to another slot; see `kohakuriver qemu acs-override`") \
    X(SHARED, "shares_group_with_gpu", true, "a group belongs to one machine: name both cards, or say --with-group") \
    X(BOOT_VGA, "boot_vga", true, "make another card the firmware's console, or go without one")                     \
    X(SRIOV, "sriov_active", true, "switch its virtual functions off (sriov_numvfs)")                                \
    X(HELD, "held", true, "end what holds it")                                                                       \
    X(DCGM, "held_by_dcgm", true, "stop DCGM, or name a hook that makes it let go (vfio_hook)")                      \
    X(PERSISTENCE, "held_by_persistenced", false, "it lets go of this card alone when the card is bound")            \
    X(NO_RESET, "no_reset", false, "the card may not work a second time before the node has been rebooted")

enum vfio_obstacle_id {
    VFIO_OBSTACLE_NONE = 0,
#define X(code, name, blocks, fix) VFIO_OBSTACLE_##code,
    VFIO_OBSTACLES(X)
#undef X
        VFIO_OBSTACLE_COUNT_
};
const char *vfio_obstacle_to_str(enum vfio_obstacle_id id);
bool vfio_obstacle_blocks(enum vfio_obstacle_id id);

struct vfio_obstacle {
    enum vfio_obstacle_id id;
    char *text;      /* owned */
    const char *fix; /* static */
};

struct vfio_card {
    char address[GPU_PCI_BYTES];
    GArray *functions;    /* of struct vfio_function: the GPU, then its companions in slot order */
    GArray *others;       /* the same: every other member of its groups, bridges too */
    GArray *holders;      /* of struct vfio_holder */
    GPtrArray *obstacles; /* of struct vfio_obstacle */
};
void vfio_card_free(struct vfio_card *card); /* NULL is fine */

/* `all` is of vfio_pci_scan; `named` (NULL-terminated, may be empty) are further cards that go to the same machine. Never NULL: an
 * address that is none is a card with that obstacle. */
struct vfio_card *vfio_card_look(const char *root, const GArray *all, const char *address, char *const *named);
bool vfio_card_is_passable(const struct vfio_card *card);
bool vfio_card_has(const struct vfio_card *card, enum vfio_obstacle_id id);
json_t *vfio_card_to_json(const struct vfio_card *card);
