#pragma once
/* Makes the disk of a VPS, or makes it larger, by qemu-img: an overlay on its image. Asynchronous; all on the loop's thread. */

#include <glib.h>
#include <stdint.h>
#include <uv.h>

#include "model/vm.h"
#include "vm/image_store.h"

struct disk_maker;
typedef void disk_maker_cb(void *user, const GError *error);

/* on_done comes once, never before this returned: the disk is there, durable, and as large as `vm` asks (it is never made smaller).
 * KR_ERROR_NOT_FOUND: its image is not there; _REFUSED: qemu-img's own answer, or the image is larger than the disk. */
struct disk_maker *disk_maker_run(uv_loop_t *loop, const struct image_store *store, const struct vm_spec *vm,
                                  disk_maker_cb *on_done, void *user);
/* No callback. NULL is fine. The loop must run once more. */
void disk_maker_cancel(struct disk_maker *maker);
