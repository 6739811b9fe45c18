#include "vm/machine_seed.h"

bool machine_write_seed(const struct machine *machine, GError **error) { return true; }
