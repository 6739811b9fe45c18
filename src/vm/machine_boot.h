#pragma once
/* What is prepared on disk for one start of a machine, and QEMU's command line for it. Blocks shortly (small files). */

#include <glib.h>

#include "vm/machine.h"

/* Fresh sockets' folder, seed, firmware's variables, a free port; no trace of an earlier run. Changes the record, saves nothing. */
bool machine_prepare(struct machine *machine, GError **error);
/* Does it stand in the network that the node makes for its machines? */
bool machine_needs_nat(const struct machine *machine);
/* Where the node reaches its SSH server; port 0: nowhere. */
void machine_ssh_address(const struct machine *machine, char ret_address[static NAT_ADDRESS_BYTES], int *ret_port);
/* The supervisor's argv. Caller frees (g_strfreev). */
char **machine_command(const struct machine *machine, GError **error);
/* How it ended, from what the supervisor, QEMU and the monitor have said: sets exit_code, error and finished_ms of the record. */
void machine_judge(struct machine *machine);
/* The last lines of what QEMU and the supervisor said, "" for nothing. Caller frees. */
char *machine_last_words(const struct machine *machine);
