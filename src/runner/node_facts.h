#pragma once
/* What this machine is: CPUs, memory, NUMA nodes, boot. Read from <sysfs_root>/sys/devices/system/node and /proc. A machine
 * without NUMA information has no NUMA nodes here, which is no error. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct node_info;
struct node_facts;

struct node_facts *node_facts_new(const char *sysfs_root, int cpus_reserved);
void node_facts_free(struct node_facts *facts);

/* The CPUs of a NUMA node in the kernel's list form, and whether it has memory to bind to. false when there is no such
 * node. *ret_cpulist is borrowed. */
bool node_facts_numa(const struct node_facts *facts, int id, const char **ret_cpulist, bool *ret_has_memory);

/* Of this boot, "" when it is not known. Borrowed. In builds with fault points KOHAKURIVER_BOOT_ID stands in for it. */
const char *node_facts_boot_id(const struct node_facts *facts);

/* Sets boot_id, version, cores, memory and numa of `info`; reads the memory in use anew. */
void node_facts_describe(const struct node_facts *facts, struct node_info *info);

/* Can state still be written under `folder`? Only when space or inodes are short, or `suspect`, this is tried with a small
 * durable write. false with KR_ERROR_STORAGE or KR_ERROR_IO. */
bool node_facts_disk_check(const char *folder, bool suspect, GError **error);
