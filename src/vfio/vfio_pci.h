#pragma once
/* PCI functions as passing a card to a machine needs them: the whole card with all of its functions, the IOMMU group that
 * they are in, and who else is in it. Read from sysfs below a root. What is read here takes no lock that a stuck driver
 * holds, vfio_pci_absence and vfio_pci_override excepted: those belong into a child process (R7). */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "gpu/gpu_pci.h"

enum { VFIO_NO_GROUP = -1, VFIO_RESET_MAX_BYTES = 63, VFIO_MAX_FUNCTIONS = 256 };
#define VFIO_DRIVER "vfio-pci"

enum vfio_role {
    VFIO_ROLE_OTHER = 1, /* something that is not part of a graphics card */
    VFIO_ROLE_GPU,
    VFIO_ROLE_AUDIO,
    VFIO_ROLE_USB,
    VFIO_ROLE_UCSI,
    VFIO_ROLE_BRIDGE, /* needs no driver of ours: a group stays viable with it */
};

struct vfio_function {
    struct pci_address at;
    char address[GPU_PCI_BYTES];
    unsigned vendor, device;
    unsigned class;                        /* 24 bits, as sysfs has it: 0x030000 */
    char driver[GPU_DRIVER_MAX_BYTES + 1]; /* empty: none */
    int group;                             /* VFIO_NO_GROUP: there is no IOMMU, or it is off */
    bool is_boot_vga;
    int n_virtual;                        /* SR-IOV functions that are switched on */
    char reset[VFIO_RESET_MAX_BYTES + 1]; /* "flr bus"; empty: the kernel knows no way to reset it alone */
};

enum vfio_role vfio_role_of_class(unsigned class);
const char *vfio_role_to_str(enum vfio_role role);

/* false when there is no such function, or its ids cannot be read. */
bool vfio_pci_read(const char *root, const char *address, struct vfio_function *ret_function);
/* All functions of the machine, in PCI order: new array of struct vfio_function, or NULL with KR_ERROR_IO. */
GArray *vfio_pci_scan(const char *root, GError **error);
bool vfio_same_slot(const struct vfio_function *a, const struct vfio_function *b);
/* "0000:41:00.1 (audio, 10de:22ba, driver snd_hda_intel)"; g_free. */
char *vfio_function_to_str(const struct vfio_function *function);

/* The driver that a function is bound to now, "" for none; false when the function is not there. Takes no lock. */
bool vfio_pci_driver(const char *root, const char *address, char ret_driver[static GPU_DRIVER_MAX_BYTES + 1]);
/* The path of a file of the function's; g_free. */
char *vfio_pci_path(const char *root, const char *address, const char *name);
/* driver_override, "" for none. Waits for whoever is binding or unbinding the function: for child processes only. */
char *vfio_pci_override(const char *root, const char *address);
/* Why the function does not answer, by its configuration space: all ones, vendor ffff or header type 7f; NULL when it does.
 * For child processes only. */
const char *vfio_pci_absence(const char *root, const char *address);

/* A number in a file such as "0x10de" or "1"; false when there is none. */
bool vfio_read_number(const char *folder, const char *name, int64_t *ret_value);
/* A small text file below the root, without white space at its ends; NULL when it cannot be read. g_free. */
char *vfio_read_text(const char *root, const char *path);
