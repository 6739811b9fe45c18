#pragma once
/* How a machine gets its cards: seen from the machines. Whoever wires the node gives the operations (they switch cards to
 * vfio-pci and back), tests a stand-in. */

#include <glib.h>
#include <stddef.h>

struct vm_devices_call;
struct qemu_function;

/* functions (borrowed, only of a bind): of all cards, each GPU before its companions. */
typedef void vm_devices_done_cb(void *arg, const struct qemu_function *functions, size_t n, const GError *error);

struct vm_devices_ops {
    /* All of these or none. An owner that has exactly these already is told so again. */
    struct vm_devices_call *(*bind)(void *user, const char *owner, const char *const *pci, size_t n,
                                    vm_devices_done_cb *on_done, void *arg);
    /* All that the owner has; success also when it has none. */
    struct vm_devices_call *(*give_back)(void *user, const char *owner, vm_devices_done_cb *on_done, void *arg);
    /* No callback afterwards; what is under way goes on to its end. */
    void (*cancel)(struct vm_devices_call *call);
};
