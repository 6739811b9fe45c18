#include "vm/disk_maker.h"

#include <sodium.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/units.h"
#include "vm/child.h"

enum { QEMU_IMG_MS = 120000, SECRET_BYTES = 24 };

struct disk_maker {
    uv_loop_t *loop;
    const struct image_store *store;
    struct vm_disk *disk;
    char *path, *size;
    struct child *child;
    uv_timer_t later; /* answers that need no child */
    GError *error;
    disk_maker_cb *on_done;
    void *user;
};

static void on_closed(uv_handle_t *handle) {
    struct disk_maker *maker = handle->data;

    vm_disk_free(maker->disk);
    g_free(maker->path);
    g_free(maker->size);
    g_clear_error(&maker->error);
    g_free(maker);
}

void disk_maker_cancel(struct disk_maker *maker) {
    if (!maker)
        return;
    child_cancel(maker->child);
    uv_close((uv_handle_t *)&maker->later, on_closed);
}

static void answer(uv_timer_t *timer) {
    struct disk_maker *maker = timer->data;

    maker->on_done(maker->user, maker->error);
    uv_close((uv_handle_t *)timer, on_closed);
}

/* What has been made counts once it is described. */
static void on_made(void *user, const char *out, const GError *error) {
    struct disk_maker *maker = user;

    maker->child = NULL;
    if (error)
        maker->error = g_error_new(KR_ERROR, error->code, "disk of VPS %u: %s", maker->disk->vps_id, error->message);
    else
        disk_store_save(maker->store, maker->disk, &maker->error);
    answer(&maker->later);
}

/* Locally administered, so never one of a real card's. */
static char *make_mac(void) {
    unsigned char b[5];

    randombytes_buf(b, sizeof b);
    return g_strdup_printf("02:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4]);
}

/* Its guest agent's. cloud-init writes it at the first start alone, so it is the disk's for life. */
static char *make_secret(void) {
    guint8 bytes[SECRET_BYTES];

    randombytes_buf(bytes, sizeof bytes);
    return g_base64_encode(bytes, sizeof bytes);
}

static void make(struct disk_maker *maker, const struct vm_spec *vm, const struct vm_image *image) {
    g_autofree char *base = image_store_path(maker->store, image->name, "disk.qcow2");
    const char *argv[] = {"qemu-img", "create", "-q", "-f",        "qcow2",     "-F",
                          "qcow2",    "-b",     base, maker->path, maker->size, NULL};
    char has[UNITS_TEXT_BYTES], wants[UNITS_TEXT_BYTES];

    if (image->virtual_bytes > vm->disk_bytes) {
        kr_fail(&maker->error, REFUSED, "the image %s needs a disk of %s, %s are asked for", image->name,
                units_bytes_to_str(image->virtual_bytes, has), units_bytes_to_str(vm->disk_bytes, wants));
        return;
    }
    maker->disk = g_new0(struct vm_disk, 1);
    *maker->disk = (struct vm_disk){.vps_id = vm->vps_id,
                                    .image = g_strdup(image->name),
                                    .image_sha256 = g_strdup(image->sha256),
                                    .mac = make_mac(),
                                    .uuid = g_uuid_string_random(),
                                    .address = g_strdup(""),
                                    .secret = make_secret(),
                                    .bytes = vm->disk_bytes,
                                    .created_ms = clock_wall_ms()};
    maker->child = child_run(maker->loop, (char *const *)argv, QEMU_IMG_MS, on_made, maker);
}

static void grow(struct disk_maker *maker, const struct vm_spec *vm) {
    const char *argv[] = {"qemu-img", "resize", "-q", "-f", "qcow2", maker->path, maker->size, NULL};

    if (vm->disk_bytes <= maker->disk->bytes)
        return;
    maker->disk->bytes = vm->disk_bytes;
    maker->child = child_run(maker->loop, (char *const *)argv, QEMU_IMG_MS, on_made, maker);
}

static void begin(struct disk_maker *maker, const struct vm_spec *vm) {
    struct vm_image *image;

    maker->disk = disk_store_find(maker->store, vm->vps_id, &maker->error);
    if (maker->disk && fs_exists(maker->path)) {
        grow(maker, vm);
        return;
    }
    if (maker->disk || !g_error_matches(maker->error, KR_ERROR, KR_ERROR_NOT_FOUND)) {
        if (maker->disk)
            kr_fail(&maker->error, REFUSED, "the disk of VPS %u has been removed by somebody else", vm->vps_id);
        return;
    }
    g_clear_error(&maker->error);
    image = image_store_find(maker->store, vm->image, &maker->error);
    if (image)
        make(maker, vm, image);
    vm_image_free(image);
}

struct disk_maker *disk_maker_run(uv_loop_t *loop, const struct image_store *store, const struct vm_spec *vm,
                                  disk_maker_cb *on_done, void *user) {
    struct disk_maker *maker = g_new0(struct disk_maker, 1);

    maker->loop = loop;
    maker->store = store;
    maker->on_done = on_done;
    maker->user = user;
    maker->path = disk_store_path(store, vm->vps_id, "qcow2");
    maker->size = g_strdup_printf("%" G_GINT64_FORMAT, vm->disk_bytes);
    uv_timer_init(loop, &maker->later);
    maker->later.data = maker;
    begin(maker, vm);
    if (!maker->child)
        uv_timer_start(&maker->later, answer, 0, 0);
    return maker;
}
