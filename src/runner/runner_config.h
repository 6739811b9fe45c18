#pragma once
/* The runner's settings: one row per key, in runner_config.c. */

#include "base/config.h"

struct qemu_config;

extern const struct config_key runner_config_keys[];

#define RUNNER_CONFIG_GROUP "runner"
#define RUNNER_CONFIG_PATH "/etc/kohakuriver/runner.conf"

/* Reads no file: `node_name`, or the machine's host name when that is empty. Caller frees. KR_ERROR_USAGE when it is no
 * node name (letters, digits, '-', '.', '_'). */
char *runner_config_node_name(const struct config *config, GError **error);

/* `memlock`: enum engine_memlock or bytes. "auto" asks for no limit where this process itself could have it, since an
 * engine without that right cannot start such a container at all. KR_ERROR_USAGE. */
bool runner_config_memlock(const struct config *config, int64_t *ret_memlock, GError **error);

/* `vm_dir`, or what stands for it. Caller frees. */
char *runner_config_vm_dir(const struct config *config);
/* The settings of machines; strings are borrowed from config, vm_dir and node. Devices and deadlines are left to the caller. */
void runner_config_vm(const struct config *config, const char *vm_dir, const char *node, struct qemu_config *ret_vm);
