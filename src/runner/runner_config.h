#pragma once
/* The runner's settings: the table, and where its file is looked for. */

#include "base/config.h"

#define RUNNER_CONFIG_GROUP "runner"
#define RUNNER_CONFIG_FILE "/etc/kohakuriver/runner.conf"

extern const struct config_key runner_config_keys[]; /* ends with a NULL name */
