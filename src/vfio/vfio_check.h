#pragma once
/* What `qemu check` finds: whether this node can run machines, and which of its GPUs can be passed to them, with the reason
 * where not and what to do. Tries KVM by running a guest of one instruction. May hang on a broken machine: for child processes only. */

#include <glib.h>
#include <jansson.h>

/* `accel` is the runner's setting vm_accel: auto, kvm or tcg. The shape is QemuCheck in openapi_schemas.json. New reference. */
json_t *vfio_check(const char *root, const char *accel);
