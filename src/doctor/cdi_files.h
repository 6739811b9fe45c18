#pragma once
/* The CDI specifications of a machine that Docker would read. */

#include "doctor/cdi_spec.h"

struct doctor_case;

struct cdi_file {
    char *path;
    struct cdi_spec *spec; /* NULL: not understood, see `why` */
    char *why;
};

/* Those that are about NVIDIA's cards, and those that were not understood. New array of struct cdi_file *. */
GPtrArray *cdi_files(struct doctor_case *c);
/* Path of the first that is about NVIDIA's cards or was not understood; g_free, NULL when there is none. */
char *cdi_first_file(struct doctor_case *c);
