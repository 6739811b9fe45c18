#pragma once
/* The disk under a runner's state folder, in memory: base/fs.h as the runner calls it ends here (the linker puts these functions in
 * its place), on the disk that was mounted last. It can be full, it can be cut off in the middle of things (kill -9: the write was
 * the last thing this life did), and a power cut takes what was not made durable, or leaves it. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "sim/dice.h"

struct disk {
    GHashTable *files; /* path -> struct disk_file */
    struct dice *dice; /* of the present step */
    bool is_full;      /* nothing can be written */
    bool is_cut;       /* whoever writes is dead already */
    int crash_in;      /* the so many-th durable write from now is the last; 0: none */
    bool crash_after;  /* ... and still reaches the disk */
    void (*on_crash)(void *user);
    void (*on_removed)(void *user, const char *path); /* durably */
    void *user;
};

void disk_init(struct disk *disk, struct dice *dice);
void disk_clear(struct disk *disk);
void disk_mount(struct disk *disk);
/* What is not durable is there afterwards, or not. */
void disk_lose_power(struct disk *disk);
/* What would be there after a power cut, for the simulator's checks; NULL: nothing. Borrowed. */
const char *disk_durable_text(const struct disk *disk, const char *path);
/* Paths of files that a new life would find and that end with ".json". Borrowed strings, caller unrefs. */
GPtrArray *disk_json_paths(const struct disk *disk, const char *folder);
