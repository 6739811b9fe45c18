#pragma once
/* What this node is, apart from its GPUs: CPUs, memory, NUMA nodes, boot id. Read from sysfs and procfs (kernel:
 * Documentation/ABI/stable/sysfs-devices-node, Documentation/filesystems/proc.rst). */

#include <stdbool.h>

#include "model/node.h"

/* Fills cores, memory, NUMA and boot_id of `info`. NUMA comes from under `sysfs_root`, the rest from the real machine.
 * What cannot be read stays empty. May be called again to refresh. */
void node_facts_read(const char *sysfs_root, struct node_info *info);

/* Whether this NUMA node has memory of its own (sys/devices/system/node/has_memory): tasks may only be bound to the
 * memory of such a node. */
bool node_facts_has_memory(const char *sysfs_root, int numa);
