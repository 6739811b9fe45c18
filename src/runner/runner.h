#pragma once
/* The runner: the agent of one node. Wires the parts of this room, of gpu/ and of engine/ together on one loop. */

struct config;

/* Runs until SIGTERM or SIGINT, when tasks run on, or until a fatal error, which is told on stderr. The exit code of the
 * process. `config` is of runner_config_keys and stays the caller's. */
int runner_main(const struct config *config);
