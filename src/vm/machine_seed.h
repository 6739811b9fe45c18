#pragma once
/* The seed of one machine: what cloud-init reads at its first start (cloud_init.h), as a small disk image (fat_seed.h). */

#include "vm/machine.h"

#define MACHINE_SEED_FILE "seed.img"

/* Writes it anew into the machine's folder. Blocks shortly. */
bool machine_write_seed(const struct machine *machine, GError **error);
