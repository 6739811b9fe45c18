#pragma once
/* A small FAT12 file system with a few files in its root, as bytes: the medium that cloud-init looks for by the label CIDATA
 * (in the boot sector and as an entry of the root directory: tools read either). Long names are written as such. */

#include <glib.h>
#include <stddef.h>

enum { FAT_SEED_MAX_FILES = 8, FAT_SEED_MAX_NAME = 26, FAT_SEED_MAX_BYTES = 1024 * 1024 };

struct fat_file {
    const char *name; /* ASCII, at most FAT_SEED_MAX_NAME */
    const char *bytes;
    size_t len;
};

/* label: at most 11 upper case letters. NULL with KR_ERROR_TOO_LARGE when the files do not fit. */
GByteArray *fat_seed_make(const char *label, const struct fat_file *files, size_t n, GError **error);
