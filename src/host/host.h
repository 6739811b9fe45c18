#pragma once
/* The host daemon: the shell around the pure core. It owns the loop, the HTTP server, the store and one link per
 * connected runner; the controller decides. */

#include "base/config.h"

/* Runs until SIGTERM or SIGINT. Returns the exit code; what went wrong stands on stderr in one line. */
int host_main(const struct config *config);
