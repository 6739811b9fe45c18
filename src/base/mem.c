#include "base/mem.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct mapping {
    uintptr_t begin, end;
    bool is_clean_file; /* private, read-only, of a file, and no page of it was written (relocations are writes) */
};

/* "begin-end perms offset dev inode path" starts a mapping in /proc/self/smaps (proc(5)). */
static bool parse_head(const char *line, struct mapping *mapping) {
    unsigned long begin, end, inode;
    char perms[5];

    if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &begin, &end, perms, &inode) != 4)
        return false;
    mapping->begin = begin;
    mapping->end = end;
    mapping->is_clean_file = inode != 0 && perms[0] == 'r' && perms[1] == '-' && perms[3] == 'p';
    return true;
}

static void release(const struct mapping *mapping) {
    if (mapping->is_clean_file)
        madvise((void *)mapping->begin, mapping->end - mapping->begin, MADV_DONTNEED);
}

void mem_trim(void) {
    FILE *smaps = fopen("/proc/self/smaps", "re");
    struct mapping mapping = {0};
    char line[512];
    unsigned long kib;

    malloc_trim(0);
    if (!smaps)
        return;
    while (fgets(line, sizeof line, smaps)) {
        struct mapping next;
        if (parse_head(line, &next)) {
            release(&mapping);
            mapping = next;
        } else if (sscanf(line, "Anonymous: %lu kB", &kib) == 1 && kib > 0) {
            mapping.is_clean_file = false; /* a page of our own: letting go would lose it */
        }
    }
    release(&mapping);
    fclose(smaps);
}
