#pragma once
/* Whether KVM runs guests: found out by running one, since a device node /dev/kvm is no proof (inside some machines it is there, and
 * emulates each instruction). May hang: for child processes only. */

#include <stdbool.h>

enum vfio_kvm {
    VFIO_KVM_WORKS = 1,
    VFIO_KVM_SLOW,  /* the guest ran, as slowly as if each instruction was emulated */
    VFIO_KVM_FAILS, /* it is there, and does not run a guest */
    VFIO_KVM_ABSENT,
};

/* Tries <root>/dev/kvm with a guest of a few instructions, for two seconds at most. *ret_text (g_free) says what came of it. */
enum vfio_kvm vfio_kvm_try(const char *root, char **ret_text);
