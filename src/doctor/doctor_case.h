#pragma once
/* What a check has in hand: facts of the machine, gathered once and kept, and words to say what it saw. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "doctor/doctor.h"
#include "doctor/doctor_root.h"
#include "gpu/gpu_pci.h"

enum { NVIDIA_MAJOR_NUMBER = 195, NVIDIACTL_MINOR = 255 };

struct doctor_pci {
    struct pci_address at;
    char address[GPU_PCI_BYTES];
    unsigned vendor, class_code; /* class_code: upper 16 bits, 0x0302 */
    char driver[GPU_DRIVER_MAX_BYTES + 1];
    char override[GPU_DRIVER_MAX_BYTES + 1]; /* driver_override; empty: none */
    int group;                               /* IOMMU group; -1: none */
    bool is_boot_vga;
};

/* What the loaded driver says of a card in /proc/driver/nvidia/gpus. */
struct doctor_card {
    char address[GPU_PCI_BYTES];
    int minor; /* -1: not said */
    char uuid[64];
};

struct doctor_proc {
    pid_t pid;
    char comm[32]; /* "?" when not to be seen; printable */
    char state;    /* 'D': cannot be killed; 0: not to be seen */
    char *unit;    /* "gdm.service"; owned */
    bool is_in_container;
    GArray *nodes; /* of dev_t: the character devices of GPUs that it has open, each once */
};

struct doctor_docker {
    bool is_there;
    bool is_systemd_cgroup;
    bool has_live_restore;
    bool is_cdi_off;
    char *default_runtime; /* NULL: runc */
    char *data_root;
    char *said_by; /* where the cgroup driver stands: "/etc/docker/daemon.json", "the default" */
    char *mistake; /* daemon.json that does not parse; NULL: none */
};

struct doctor_facts;
struct doctor_facts *doctor_facts_new(struct doctor_root *root, const struct doctor_options *options);
void doctor_facts_free(struct doctor_facts *facts);

struct doctor_case {
    const struct doctor_check *check;
    struct doctor_root *root;
    struct doctor_facts *facts;
    enum doctor_outcome outcome;
    GString *seen;
    char *fix;
};

/* ---- facts; all are borrowed from the facts ---- */

const GArray *doctor_pci(struct doctor_case *c);   /* of struct doctor_pci, in PCI order */
const GArray *doctor_gpus(struct doctor_case *c);  /* those of them that are NVIDIA display or 3D controllers */
bool doctor_has_pci(struct doctor_case *c);        /* false: there is no inventory to read */
const GArray *doctor_cards(struct doctor_case *c); /* of struct doctor_card */
const GPtrArray *doctor_procs(struct doctor_case *c);
const struct doctor_docker *doctor_docker(struct doctor_case *c);
const char *doctor_driver_version(struct doctor_case *c); /* of the loaded driver; "" when none is */
char *doctor_library_version(struct doctor_case *c);      /* of libnvidia-ml on disk; g_free, NULL: none, or not told */
const char *doctor_runner_setting(struct doctor_case *c, const char *key);
bool doctor_wants_vfio(struct doctor_case *c);
const char *doctor_vfio_sign(struct doctor_case *c); /* why it is thought so */
/* "ok 1.17.8-1" of a Debian package: *ret_is_held, its version g_free; NULL when it is not installed. */
char *doctor_package(struct doctor_case *c, const char *name, bool *ret_is_held);
/* Names of installed Debian packages that begin with a prefix, space between; g_free, "" for none. `held` picks. */
char *doctor_packages_like(struct doctor_case *c, const char *prefix, bool held);

bool doctor_gpu_has_driver(struct doctor_case *c, const char *driver); /* any GPU bound to it */
/* Gathered from a process list without the right to see all: says so as trouble. */
const struct doctor_proc *doctor_proc_named(struct doctor_case *c, const char *comm);

/* ---- small readers ---- */

/* /sys and /proc files of one value: chomped; NULL when absent. g_free. */
char *doctor_value(struct doctor_case *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
bool doctor_has(struct doctor_case *c, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* "550.54.15" against "550.9": <0, 0, >0; what is not a number ends a version. */
int doctor_version_compare(const char *a, const char *b);
/* The version number that a text begins with after `prefix`; g_free, NULL when there is none. */
char *doctor_version_after(const char *text, const char *prefix);

/* ---- saying ---- */

/* Adds a sentence to what was seen; the heaviest outcome counts, and only its sentences and heavier ones are shown. */
void doctor_say(struct doctor_case *c, enum doctor_outcome outcome, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The command that fixes it, instead of the row's. */
void doctor_fix(struct doctor_case *c, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define doctor_error(c, ...) doctor_say((c), DOCTOR_ERROR, __VA_ARGS__)
#define doctor_warning(c, ...) doctor_say((c), DOCTOR_WARNING, __VA_ARGS__)
#define doctor_unknown(c, ...) doctor_say((c), DOCTOR_UNKNOWN, __VA_ARGS__)
#define doctor_ok(c, ...) doctor_say((c), DOCTOR_OK, __VA_ARGS__)
#define doctor_skip(c, ...) doctor_say((c), DOCTOR_NOT_APPLICABLE, __VA_ARGS__)
