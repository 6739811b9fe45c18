#pragma once
/* What can be seen beforehand of the ways in which a node loses GPUs. A check is a row of doctor_checks[]: the list, the
 * docs and the report are made of the rows. Checks read (doctor_root.h) and judge; they change nothing and never ask a
 * driver. They run in a child process, and one that does not come back within its deadline is an outcome of its own. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

#include "base/config.h"

struct doctor_case;

/* In rising order of weight: when a check says several things, the heaviest counts. */
enum doctor_outcome {
    DOCTOR_NOT_APPLICABLE = 1, /* what it guards against cannot happen here */
    DOCTOR_OK,
    DOCTOR_UNKNOWN, /* could not look, or did not understand what it saw */
    DOCTOR_WARNING, /* will cost something one day */
    DOCTOR_ERROR,   /* tasks fail, or a card is not its holder's alone */
};
const char *doctor_outcome_to_str(enum doctor_outcome outcome); /* "error" … "not_applicable" */
enum doctor_outcome doctor_outcome_from_str(const char *text);  /* 0: none */

/* When a check applies at all. */
enum {
    DOCTOR_NEEDS_GPU = 1,    /* an NVIDIA GPU on the PCI bus */
    DOCTOR_NEEDS_DRIVER = 2, /* one that is bound to the nvidia driver */
    DOCTOR_NEEDS_DOCKER = 4,
    DOCTOR_NEEDS_VFIO = 8, /* signs that GPUs of this node are handed to virtual machines */
};

struct doctor_check {
    const char *id;      /* kebab-case, stable; NULL ends the table */
    const char *group;   /* "driver", "docker", "users", "vfio", "node" */
    const char *against; /* the loss ("L38") or the rule ("R5") that it is about; "-": neither */
    unsigned needs;
    const char *title; /* what holds when all is well */
    const char *why;   /* what it costs when not */
    const char *fix;   /* a command; a check may say a better one */
    void (*run)(struct doctor_case *c);
};
extern const struct doctor_check doctor_checks[];

struct doctor_result {
    const struct doctor_check *check;
    enum doctor_outcome outcome;
    char *seen; /* values and paths, owned */
    char *fix;  /* owned; NULL unless error or warning */
};

struct doctor_options {
    const char *root;                     /* folder or description */
    char *const *only;                    /* ids; NULL or empty: all */
    bool expect_vfio;                     /* judge the node as one that hands GPUs to virtual machines */
    int deadline_ms;                      /* for each check; 0: DOCTOR_DEADLINE_MS */
    const struct config_key *runner_keys; /* for the fallbacks of what runner.conf does not say */
};
enum { DOCTOR_DEADLINE_MS = 5000 };

/* New array of struct doctor_result * in the table's order, or NULL: KR_ERROR_USAGE for a bad root or an unknown id. Takes
 * at most the deadline for each check. */
GPtrArray *doctor_run(const struct doctor_options *options, GError **error);

/* {summary: {errors, warnings, unknown, ok, not_applicable}, checks: [{id, group, against, outcome, title, seen, why, fix}]}
 * and [{id, group, against, title, why, fix}]. New references. */
json_t *doctor_to_json(const GPtrArray *results);
json_t *doctor_list_to_json(void);
int doctor_count(const GPtrArray *results, enum doctor_outcome outcome);
