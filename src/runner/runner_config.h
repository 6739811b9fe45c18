#pragma once
/* The runner's settings: one row per key, in runner_config.c. */

#include "base/config.h"

extern const struct config_key runner_config_keys[];

#define RUNNER_CONFIG_GROUP "runner"
#define RUNNER_CONFIG_PATH "/etc/kohakuriver/runner.conf"

/* Reads no file: `node_name`, or the machine's host name when that is empty. Caller frees. KR_ERROR_USAGE when it is no
 * node name (letters, digits, '-', '.', '_'). */
char *runner_config_node_name(const struct config *config, GError **error);

/* `memlock`: enum engine_memlock or bytes. "auto" asks for no limit where this process itself could have it, since an
 * engine without that right cannot start such a container at all. KR_ERROR_USAGE. */
bool runner_config_memlock(const struct config *config, int64_t *ret_memlock, GError **error);
