/* What hands a card to a virtual machine, or keeps it from it. */
#include <string.h>
#include <sys/stat.h>

#include "doctor/checks.h"
#include "doctor/doctor_case.h"

static const struct doctor_pci *gpu_at(const GArray *gpus, guint i) {
    return &g_array_index(gpus, struct doctor_pci, i);
}

void check_iommu(struct doctor_case *c) {
    g_auto(GStrv) groups = doctor_root_list(c->root, "/sys/kernel/iommu_groups");
    g_autofree char *cpu = doctor_value(c, "/proc/cpuinfo");
    bool is_amd = cpu && strstr(cpu, "AuthenticAMD");

    if (groups && groups[0]) {
        doctor_ok(c, "%u IOMMU groups", g_strv_length(groups));
        return;
    }
    doctor_error(c, "no group in /sys/kernel/iommu_groups, and this node is for virtual machines: %s",
                 doctor_vfio_sign(c));
    doctor_fix(c, "switch on %s in the firmware%s, reboot", is_amd ? "AMD-Vi (IOMMU)" : "VT-d",
               is_amd ? "" : " and add intel_iommu=on iommu=pt to the kernel's command line");
}

/* ---- groups ---- */

static bool same_slot(const struct doctor_pci *a, const struct doctor_pci *b) {
    return a->at.domain == b->at.domain && a->at.bus == b->at.bus && a->at.device == b->at.device;
}

static bool is_bridge(const struct doctor_pci *pci) { return pci->class_code >> 8 == 0x06; }

static bool is_gpu(struct doctor_case *c, const struct doctor_pci *pci) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++)
        if (pci_address_compare(&gpu_at(gpus, i)->at, &pci->at) == 0)
            return true;
    return false;
}

/* A function of a card: in the slot of some GPU (its audio, its USB port). */
static bool is_of_a_gpu(struct doctor_case *c, const struct doctor_pci *pci) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++)
        if (same_slot(gpu_at(gpus, i), pci))
            return true;
    return false;
}

typedef void member_fn(struct doctor_case *c, const struct doctor_pci *gpu, const struct doctor_pci *member);

/* Calls `look` for each device that shares a GPU's group; bridges are no endpoints. Says so where there is no group. */
static void each_member(struct doctor_case *c, member_fn *look) {
    const GArray *gpus = doctor_gpus(c), *pci = doctor_pci(c);
    bool has_group = false;

    for (guint i = 0; i < gpus->len; i++)
        for (guint k = 0; gpu_at(gpus, i)->group >= 0 && k < pci->len; k++) {
            const struct doctor_pci *member = &g_array_index(pci, struct doctor_pci, k);
            has_group = true;
            if (member->group == gpu_at(gpus, i)->group && !is_bridge(member) &&
                pci_address_compare(&member->at, &gpu_at(gpus, i)->at) != 0)
                look(c, gpu_at(gpus, i), member);
        }
    if (!has_group)
        doctor_skip(c, "no GPU has an IOMMU group");
}

static void look_foreign(struct doctor_case *c, const struct doctor_pci *gpu, const struct doctor_pci *member) {
    if (!is_of_a_gpu(c, member))
        doctor_warning(c, "GPU %s shares IOMMU group %d with %s (class %04x, driver %s), which is no part of a card",
                       gpu->address, gpu->group, member->address, member->class_code,
                       member->driver[0] ? member->driver : "none");
}

void check_iommu_group_foreign(struct doctor_case *c) {
    each_member(c, look_foreign);
    if (c->outcome != DOCTOR_NOT_APPLICABLE)
        doctor_ok(c, "no foreign device in a GPU's group");
}

static void look_shared(struct doctor_case *c, const struct doctor_pci *gpu, const struct doctor_pci *member) {
    if (is_gpu(c, member) && !same_slot(gpu, member) && pci_address_compare(&gpu->at, &member->at) < 0)
        doctor_warning(c, "GPUs %s and %s share IOMMU group %d", gpu->address, member->address, gpu->group);
}

void check_iommu_group_shared(struct doctor_case *c) {
    each_member(c, look_shared);
    if (c->outcome != DOCTOR_NOT_APPLICABLE)
        doctor_ok(c, "each GPU is in a group of its own");
}

static void look_incomplete(struct doctor_case *c, const struct doctor_pci *gpu, const struct doctor_pci *member) {
    if (strcmp(gpu->driver, "vfio-pci") != 0 || !member->driver[0] || strcmp(member->driver, "vfio-pci") == 0 ||
        strcmp(member->driver, "pci-stub") == 0)
        return;
    doctor_error(c, "GPU %s is on vfio-pci, %s of its group %d is on %s", gpu->address, member->address, gpu->group,
                 member->driver);
    doctor_fix(
        c,
        "echo vfio-pci > /sys/bus/pci/devices/%s/driver_override; echo %s > /sys/bus/pci/devices/%s/driver/unbind; "
        "echo %s > /sys/bus/pci/drivers_probe",
        member->address, member->address, member->address, member->address);
}

void check_vfio_group_incomplete(struct doctor_case *c) {
    if (!doctor_gpu_has_driver(c, "vfio-pci")) {
        doctor_skip(c, "no GPU is on vfio-pci now");
        return;
    }
    each_member(c, look_incomplete);
    if (c->outcome != DOCTOR_NOT_APPLICABLE)
        doctor_ok(c, "no group is on vfio-pci in part only");
}

/* ---- displays ---- */

void check_boot_vga(struct doctor_case *c) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++)
        if (gpu_at(gpus, i)->is_boot_vga)
            doctor_warning(c, "GPU %s is the machine's console (/sys/bus/pci/devices/%s/boot_vga is 1)",
                           gpu_at(gpus, i)->address, gpu_at(gpus, i)->address);
    doctor_ok(c, "no GPU is the machine's console");
}

void check_drm_modeset(struct doctor_case *c) {
    g_autofree char *modeset = doctor_value(c, "/sys/module/nvidia_drm/parameters/modeset");
    g_autofree char *fbdev = doctor_value(c, "/sys/module/nvidia_drm/parameters/fbdev");

    if (!modeset)
        doctor_ok(c, "nvidia_drm is not loaded");
    else if (strcmp(modeset, "Y") == 0)
        doctor_warning(c, "/sys/module/nvidia_drm/parameters/modeset is Y%s",
                       fbdev && strcmp(fbdev, "Y") == 0 ? ", fbdev too" : "");
    else
        doctor_ok(c, "modeset is %s", modeset);
}

void check_gpu_reset(struct doctor_case *c) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++)
        if (!doctor_has(c, "/sys/bus/pci/devices/%s/reset_method", gpu_at(gpus, i)->address) &&
            !doctor_has(c, "/sys/bus/pci/devices/%s/reset", gpu_at(gpus, i)->address))
            doctor_warning(c, "GPU %s offers no way to be reset (no reset_method in /sys/bus/pci/devices/%s)",
                           gpu_at(gpus, i)->address, gpu_at(gpus, i)->address);
    doctor_ok(c, "each GPU can be reset");
}

void check_kvm_node(struct doctor_case *c) {
    struct doctor_stat st;

    if (!doctor_root_stat(c->root, "/dev/kvm", &st))
        doctor_warning(c, "/dev/kvm is not there");
    else if (!S_ISCHR(st.mode))
        doctor_warning(c, "/dev/kvm is not a device");
    else
        doctor_ok(c, "/dev/kvm is there");
}
