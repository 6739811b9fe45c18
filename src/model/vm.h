#pragma once
/* What makes a task a virtual machine: the part of its spec that a container does not have. The machine's cores and memory are the
 * spec's own. A VPS (model/vps.h) is a name and a disk that live longer; each time it is started there is one such task, with
 * a lease of its own, which ends when the machine is off. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    VM_MAX_NAME_BYTES = 63, /* of an image or a machine: a file name and a host name */
    VM_MAX_KEYS = 32,
    VM_MAX_KEY_BYTES = 16384, /* an authorized_keys line */
    VM_MAX_USER_DATA_BYTES = 64 * 1024,
    VM_MIN_MEM_MIB = 64,
};
#define VM_MIN_DISK_BYTES ((int64_t)64 << 20)
#define VM_MAX_DISK_BYTES ((int64_t)1 << 46)

struct vm_spec {
    uint32_t vps_id;      /* whose disk it runs on */
    char *hostname;       /* owned, as all below; RFC 1123 label */
    char *image;          /* of the node's store; the disk is an overlay on it */
    int64_t disk_bytes;   /* size of the overlay when it is made */
    char *user;           /* login made in the guest */
    char **ssh_keys;      /* authorized_keys lines; may be empty */
    char *user_data;      /* cloud-init document of the user's own, merged after ours; NULL: none */
    char *network;        /* "user" | "bridge" */
    bool takes_group;     /* free GPUs of its GPUs' IOMMU groups are leased and passed along */
    bool installs_driver; /* the guest is given the NVIDIA driver that matches the node's */
};
void vm_spec_free(struct vm_spec *vm); /* NULL is fine */
struct vm_spec *vm_spec_copy(const struct vm_spec *vm);
json_t *vm_spec_to_json(const struct vm_spec *vm);
/* New, or NULL with KR_ERROR_BAD_REQUEST. Checks all that can be checked without a node. */
struct vm_spec *vm_spec_from_json(const json_t *json, GError **error);

/* Letters, digits and '-', beginning and ending with a letter or digit, at most VM_MAX_NAME_BYTES: an image's or a machine's name.
 * KR_ERROR_BAD_REQUEST names `what`. */
bool vm_name_check(const char *name, const char *what, GError **error);
