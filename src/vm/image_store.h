#pragma once
/* Images and disks of machines on this node, below one folder:
 *   images/NAME/{image.json, disk.qcow2, kernel, initrd}   read-only; kernel and initrd only of images that bring them
 *   disks/VPS.{json, qcow2, vars}                          one per VPS, an overlay on its image; outlives the machine
 * An image never changes: overlays depend on its bytes. It cannot be deleted while a disk stands on it. All calls block
 * shortly (small files). Names are checked (model/vm.h) before they become paths. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct vm_image {
    char *name; /* owned, as all below */
    char *sha256;
    char *source; /* where it came from, for people */
    char *append; /* of its kernel; "" */
    int64_t virtual_bytes, created_ms;
    bool has_kernel, has_initrd;
};
void vm_image_free(struct vm_image *image);

struct vm_disk {
    uint32_t vps_id;
    char *image; /* owned, as all below: it stands on */
    char *image_sha256;
    char *mac, *uuid; /* the machine's, for life */
    char *secret;     /* of its guest agent */
    char *address;    /* in the machines' own network, "": none yet */
    int64_t bytes, created_ms;
};
void vm_disk_free(struct vm_disk *disk);

struct image_store;
/* Makes the folders. NULL with KR_ERROR_IO or _STORAGE. */
struct image_store *image_store_new(const char *folder, GError **error);
void image_store_free(struct image_store *store);

/* NULL with KR_ERROR_NOT_FOUND; KR_ERROR_IO: it cannot be read. */
struct vm_image *image_store_find(const struct image_store *store, const char *name, GError **error);
GPtrArray *image_store_list(const struct image_store *store); /* struct vm_image, by name */
/* Path of one of its files ("disk.qcow2", "kernel", "initrd"). Caller frees. */
char *image_store_path(const struct image_store *store, const char *name, const char *file);
/* Makes a folder to be filled, next to the images; those of a day ago go, whoever made them is dead. Caller frees. image_store_take turns it into the image: read-only,
 * durable, all or nothing. KR_ERROR_REFUSED: that name is taken. On failure the folder is removed. */
char *image_store_begin(const struct image_store *store, GError **error);
bool image_store_take(const struct image_store *store, const char *begun, const struct vm_image *image, GError **error);
void image_store_abandon(const char *begun);
/* KR_ERROR_REFUSED names the disks that stand on it. */
bool image_store_delete(const struct image_store *store, const char *name, GError **error);

/* NULL with KR_ERROR_NOT_FOUND. */
struct vm_disk *disk_store_find(const struct image_store *store, uint32_t vps_id, GError **error);
GPtrArray *disk_store_list(const struct image_store *store); /* struct vm_disk, by number */
/* "disks/12.qcow2", absolute; `suffix` is qcow2 or vars. Caller frees. */
char *disk_store_path(const struct image_store *store, uint32_t vps_id, const char *suffix);
/* Writes the description: from now on the disk is there. */
bool disk_store_save(const struct image_store *store, const struct vm_disk *disk, GError **error);
/* All files of it. A disk that is not there is success. Whether somebody uses it is for the caller to know. */
bool disk_store_delete(const struct image_store *store, uint32_t vps_id, GError **error);

/* Removes the folder and what is in it, without following links. A folder that is not there is success. */
bool fs_remove_tree(const char *path, GError **error);
