#pragma once
/* QEMU's command line, as a pure function of what the machine is. Paths may be relative to the machine's folder `run`, in
 * which QEMU is started. What guests must be able to rely on is pinned: the machine type and where each device sits. A
 * GPU's functions are functions of one slot behind a root port of their own, as they are on the node. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QEMU_MAX_FUNCTIONS = 256, QEMU_ADDRESS_BYTES = 20 };

#define QEMU_QMP_SOCKET "qmp.sock"                   /* the runner's */
#define QEMU_DEBUG_SOCKET "debug.sock"               /* for people */
#define QEMU_CONSOLE_SOCKET "console.sock"           /* serial console, one reader and writer at a time */
#define QEMU_AGENT_SOCKET "agent.sock"               /* the guest agent's channel */
#define QEMU_AGENT_CHANNEL "org.kohakuriver.agent.0" /* what the guest sees under /dev/virtio-ports */

/* One function of a card that is passed. */
struct qemu_function {
    char address[QEMU_ADDRESS_BYTES]; /* "0000:41:00.0" */
    unsigned pci_class;               /* 0x0300: base class and subclass */
};

/* Strings are borrowed. */
struct qemu_machine {
    const char *binary, *machine_type;
    const char *accel; /* "kvm" | "tcg" */
    const char *name;
    const char *uuid; /* of the machine, stable over its starts; NULL: none */
    int cores;
    int64_t mem_bytes;
    const char *disk, *seed;              /* seed NULL: none */
    const char *kernel, *initrd, *append; /* kernel NULL: firmware boots the disk */
    const char *ovmf_code, *ovmf_vars;    /* NULL: SeaBIOS */
    const char *mac;
    bool is_bridged;                       /* an interface on SHIM_TAP_FD; else user-mode network */
    bool is_restricted;                    /* user-mode network: nothing goes out */
    int ssh_port;                          /* on 127.0.0.1, forwarded to the guest's 22; 0: none */
    const struct qemu_function *functions; /* GPU first, its companions behind it */
    size_t n_functions;
    const char *numa_nodes;    /* where its memory lies, "0"; NULL: anywhere */
    const char *hugepages;     /* folder of a hugetlbfs; NULL: none */
    int64_t mmio_window_bytes; /* for the GPUs' memory, 0: firmware's default */
    const char *shared_folder; /* of the node, given as the 9p share "shared"; NULL: none */
    int console_fd;            /* inherited: a copy of the console goes there */
};

/* NULL-terminated, starting with the binary. Caller frees with g_strfreev. KR_ERROR_REFUSED when a path cannot be said to
 * QEMU, or the functions do not begin with a GPU. */
char **qemu_argv_make(const struct qemu_machine *machine, GError **error);

/* The newest machine type of ours that the output of `-machine help` offers; NULL when none. Static. */
const char *qemu_machine_type_pick(const char *help);
/* How much address space the cards' memory needs, a power of two: from the sizes of their largest 64-bit regions. */
int64_t qemu_mmio_window(const int64_t *region_bytes, size_t n);
/* "gpu0", "gpu0-1": what function `i` is called inside QEMU. */
void qemu_function_id(const struct qemu_function *functions, size_t i, char *buf, size_t len);
