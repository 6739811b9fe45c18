#pragma once
/* The facts' own store, filled on demand by facts.c, docker_facts.c and packages.c. NULL: not gathered yet. */

#include "doctor/doctor_case.h"

struct doctor_facts {
    bool expect_vfio;
    const struct config_key *runner_keys;
    bool has_pci;
    GArray *pci, *gpus, *cards;
    GPtrArray *procs;
    char *procs_trouble;
    char *driver_version, *vfio_sign;
    GKeyFile *runner_conf;
    struct doctor_docker *docker;
    char *dpkg; /* /var/lib/dpkg/status; "" when there is none */
    char *dpkg_trouble;
};

void doctor_docker_free(struct doctor_docker *docker); /* docker_facts.c; takes NULL */
