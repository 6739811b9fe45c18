#pragma once
/* Takes a disk image from elsewhere into the store. What comes from elsewhere is believed in nothing: its format is what qemu-img
 * says, only qcow2 and raw are taken, one that stands on another file (backing or data file) is refused, and what is
 * kept is a fresh copy. Blocks for as long as it takes. */

#include <glib.h>
#include <stdbool.h>

struct image_store;

struct image_wish {
    const char *name;
    const char *from;            /* a path or an URL; NULL: `recipe` makes it */
    const char *recipe;          /* a program: is given a folder, makes disk.raw, kernel, initrd and append in it */
    const char *kernel, *initrd; /* paths; NULL: none */
    const char *append;          /* NULL: none */
    const char *sha256;          /* of what is fetched; NULL: any */
};

/* KR_ERROR_REFUSED with the reason; nothing is left behind on failure. */
bool image_import(const struct image_store *store, const struct image_wish *wish, GError **error);
/* What `qemu-img info --output=json` said: may it be taken? *ret_format is static. KR_ERROR_REFUSED. */
bool image_info_check(const char *json, const char **ret_format, gint64 *ret_virtual_bytes, GError **error);
