#pragma once
/* What `qemu check` finds: whether this node can run machines, and which of its GPUs can be passed to them, with the reason
 * where not and what to do. Tries KVM by running a guest. May hang on a broken machine: for child processes only. */

#include <glib.h>
#include <jansson.h>

/* code, id (each has a section in docs/gpu-passthrough.md), what to do when it is missing */
#define VFIO_FINDINGS(X)                                                                                              \
    X(CPU, "cpu_virtualisation",                                                                                      \
      "switch VT-x or SVM on in the firmware; machines run without it, slowly (vm_accel = tcg)")                      \
    X(KVM, "kvm", "modprobe kvm_intel or kvm_amd; machines run without it, slowly (vm_accel = tcg)")                  \
    X(QEMU, "qemu", "install qemu-system-x86 and qemu-utils")                                                         \
    X(OVMF, "ovmf", "install ovmf: cards with large memory need a machine that starts with UEFI")                     \
    X(IOMMU, "iommu", "switch VT-d or AMD-Vi on in the firmware; on Intel, start the kernel with intel_iommu=on")     \
    X(MODULES, "vfio_modules", "modprobe vfio-pci vfio_iommu_type1, and name both in /etc/modules-load.d/vfio.conf")  \
    X(MEMLOCK, "memlock", "LimitMEMLOCK=infinity in the runner's unit: all memory of a machine with a GPU is locked") \
    X(GPUS, "gpus", "see the card's own lines")

enum vfio_finding_id {
#define X(code, id, fix) VFIO_FINDING_##code,
    VFIO_FINDINGS(X)
#undef X
        VFIO_FINDING_COUNT_
};
const char *vfio_finding_to_str(enum vfio_finding_id id);

/* `accel` is the runner's setting vm_accel: auto, kvm or tcg. The shape is QemuCheck in openapi_schemas.json. New reference. */
json_t *vfio_check(const char *root, const char *accel);
