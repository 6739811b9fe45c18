#pragma once
/* What is durable about one machine: what was asked for, and how far it has come. Written before each step that it
 * announces (R5), so that a runner that starts again knows what may be there. */

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/vm.h"
#include "vm/qemu_argv.h"

enum machine_state {
    MACHINE_UNSET = 0,
    MACHINE_CREATED,  /* never started, or its start failed: `error` */
    MACHINE_STARTING, /* cards may be bound, QEMU may be there; no instruction of the guest has run */
    MACHINE_RUNNING,
    MACHINE_ENDED,
    MACHINE_STATE_COUNT_
};

struct machine_record {
    char *name;         /* owned, as all below */
    GHashTable *labels; /* char* -> char* */
    struct vm_spec *vm;
    int cores;
    int64_t mem_bytes, log_max_bytes;
    char *cpus, *numa_nodes; /* ""; no binding */
    char **gpu_pci;          /* addresses as they were asked for */
    enum machine_state state;
    GArray *functions; /* struct qemu_function: what was bound for it */
    int ssh_port;      /* 0: none */
    int64_t created_ms, started_ms, finished_ms;
    bool was_ready;  /* its guest's first start was over once */
    bool was_killed; /* QEMU was ended by us */
    int exit_code;
    char *error; /* NULL: none */
};

void machine_record_free(struct machine_record *record); /* NULL is fine */
json_t *machine_record_to_json(const struct machine_record *record);
struct machine_record *machine_record_from_json(const json_t *json, GError **error);
/* record.json in `folder`. */
bool machine_record_save(const struct machine_record *record, const char *folder, GError **error);
struct machine_record *machine_record_load(const char *folder, GError **error);
