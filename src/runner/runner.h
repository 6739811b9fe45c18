#pragma once
/* The runner daemon: puts executor, GPU monitor, engine, logs and the link to the host on one loop. */

#include "base/config.h"

/* Runs until SIGTERM or SIGINT; tasks run on. Returns the exit code; what went wrong stands on stderr in one line. */
int runner_main(const struct config *config);
