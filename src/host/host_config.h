#pragma once
/* The host's settings: the table, and where its file is looked for. */

#include "base/config.h"

#define HOST_CONFIG_GROUP "host"
#define HOST_CONFIG_FILE "/etc/kohakuriver/host.conf"

extern const struct config_key host_config_keys[]; /* ends with a NULL name */
