#pragma once
/* The little of a CDI specification that tells whether it still fits the machine: its kind, the names of its devices, the
 * device nodes, and the driver version in the names of the libraries that it mounts. JSON is parsed; of YAML the plain
 * block style that nvidia-ctk writes is understood, anything else is refused rather than guessed. Pure. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

enum { CDI_MAX_BYTES = 1 << 20, CDI_MAX_DEVICES = 4096 };

struct cdi_spec {
    char *kind;          /* "nvidia.com/gpu" */
    GPtrArray *devices;  /* of char *: names */
    GPtrArray *nodes;    /* of char *: "/dev/nvidia0", each once */
    GPtrArray *versions; /* of char *: "550.54.15", each once */
};

/* KR_ERROR_BAD_REQUEST saying what was not understood. */
struct cdi_spec *cdi_spec_parse(const char *text, size_t len, GError **error);
void cdi_spec_free(struct cdi_spec *spec);
