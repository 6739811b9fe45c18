#pragma once
/* QEMU as a container engine (engine/engine_backend.h): a machine is made, started, waited for and removed as a container is. What is
 * different, for those who use it:
 *   - engine_config.vm and gpu_pci are what counts; argv, env and mounts mean nothing. The id is the name.
 *   - the disk belongs to the VPS (vm->vps_id): made at the first create, used again at the next, never removed with the
 *     machine. Of one VPS at most one machine is there that has not ended.
 *   - start binds the cards (vm_devices.h), starts QEMU stopped, looks whether every function is in it, and lets it go on.
 *     remove ends it and gives the cards back; it fails, and can be repeated, as long as they do not come back.
 *   - SIGTERM presses the power button, SIGKILL ends QEMU; pausing stops the virtual CPUs; the output is the serial console.
 *   - a guest that powers off has exit code 0, one that reboots goes on running, QEMU killed by a signal has 128 + signal,
 *     and 1 stands for QEMU's own failure, with its last words as the error.
 * Machines outlive this process (shim.h) and are adopted by the next engine_qemu_new: by pid with start time and by the monitor's
 * socket. An end in between is read from what the supervisor wrote; is that gone, the machine has ended with the error "vanished". */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "engine/engine.h"
#include "model/guest.h"
#include "vm/nat.h"
#include "vm/vm_devices.h"

/* Strings are copied; NULL is as "". */
struct qemu_config {
    const char *folder; /* images, disks, machines */
    const char *node;   /* this node's name, for messages of the guest's console; may be "" */
    const char *binary; /* "qemu-system-x86_64"; qemu-img is looked for beside it */
    const char *accel;  /* "auto", "kvm", "tcg" */
    const char *user;   /* whom QEMU runs as; "": as we do */
    const char *cgroup; /* folder of a cgroup 2 file system under which each machine gets its own; "": none */
    const char *bridge; /* for machines whose network is "bridge"; "": they are refused */
    const char *nat; /* that bridge is made here, with this address ("10.88.0.1/24", nat.h); "": it is there already */
    char *const *name_servers; /* of machines in that network; empty: as the node's resolv.conf says */
    const char *hugepages;     /* folder of a hugetlbfs; "": none */
    const char *shared_folder; /* of the node, shown to guests as /shared; "": none */
    const char *firmware;      /* folder with OVMF_CODE_4M.fd and OVMF_VARS_4M.fd; "": SeaBIOS */
    const char *driver;        /* NVIDIA driver for guests: "" or "distribution", or URL or path of a .run file */
    const char *driver_sha256; /* of that file */
    const char *sysfs_root;    /* "/" */
    const char *exe;           /* the program with the verb vm-shim; "": this one */
    bool is_restricted;        /* user-mode network without a way out */
    int64_t mmio_window_bytes; /* for the cards' memory; 0: as large as the cards say */
    int64_t start_deadline_ms; /* from QEMU's start to its greeting; 0: 5 minutes */
    const struct vm_devices_ops *devices; /* NULL: machines with GPUs are refused */
    void *devices_user;
};

/* Adopts what is there. NULL with KR_ERROR_IO or _STORAGE: the folder cannot be used; _USAGE: config->nat is wrong. */
struct engine *engine_qemu_new(uv_loop_t *loop, const struct qemu_config *config, GError **error);

/* What the engine's own users do not see of a machine. */
struct qemu_view {
    char *console_socket;                /* path; owned */
    char ssh_address[NAT_ADDRESS_BYTES]; /* where the node reaches its SSH server */
    int ssh_port;                        /* 0: nowhere */
    int64_t started_ms;                  /* wall clock */
    bool was_ready;                      /* its guest has been, at one time */
    const struct guest_state *guest;     /* its agent's last report, borrowed until the loop goes on; NULL: none */
    int64_t guest_ms;                    /* when that came, monotonic */
};
void qemu_view_clear(struct qemu_view *view);
/* false: there is no such machine. `engine` is one of engine_qemu_new. */
bool engine_qemu_view(struct engine *engine, const char *id, struct qemu_view *ret_view);
