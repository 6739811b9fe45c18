#include "vm/image_import.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "model/vm.h"
#include "vm/child.h"
#include "vm/image_store.h"

enum { HOUR_MS = 3600 * 1000, READ_BYTES = 1024 * 1024, MAX_APPEND_BYTES = 2000 };

/* ---- a program, waited for ---- */

struct waited {
    char *out;
    GError *error;
};

static void on_done(void *user, const char *out, const GError *error) {
    struct waited *waited = user;

    waited->out = g_strdup(out);
    waited->error = error ? g_error_copy(error) : NULL;
}

/* Its output (the caller frees), or NULL. */
static char *run(const char *const *argv, GError **error) {
    struct waited waited = {0};
    uv_loop_t loop;

    uv_loop_init(&loop);
    child_run(&loop, (char *const *)argv, HOUR_MS, on_done, &waited);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    if (!waited.error)
        return waited.out;
    g_free(waited.out);
    g_propagate_error(error, waited.error);
    return NULL;
}

/* ---- fetching ---- */

static size_t on_bytes(char *bytes, size_t size, size_t n, void *user) { return fwrite(bytes, size, n, user); }

static bool fetch(const char *url, const char *path, GError **error) {
    char text[CURL_ERROR_SIZE] = "";
    CURL *curl = curl_easy_init();
    FILE *file = fopen(path, "we");
    CURLcode rc = CURLE_FAILED_INIT;

    if (curl && file) {
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
        curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, file);
        rc = curl_easy_perform(curl);
    }
    curl_easy_cleanup(curl);
    if (file && fclose(file) != 0 && rc == CURLE_OK)
        rc = CURLE_WRITE_ERROR;
    return rc == CURLE_OK || kr_fail(error, REFUSED, "fetch %s: %s", url, text[0] ? text : curl_easy_strerror(rc));
}

static bool is_url(const char *from) { return g_str_has_prefix(from, "http://") || g_str_has_prefix(from, "https://"); }

/* ---- checking ---- */

static char *sha256_of(const char *path, GError **error) {
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree guchar *chunk = g_malloc(READ_BYTES);
    ssize_t n = -1;

    while (fd >= 0 && (n = read(fd, chunk, READ_BYTES)) > 0)
        g_checksum_update(sum, chunk, n);
    if (n == 0)
        return g_strdup(g_checksum_get_string(sum));
    fs_fail_errno(error, errno, "read", path);
    return NULL;
}

bool image_info_check(const char *text, const char **ret_format, gint64 *ret_virtual_bytes, GError **error) {
    static const char *const formats[] = {"qcow2", "raw"};
    json_t *json = jsonx_parse(text, strlen(text), error);
    const json_t *data = json_object_get(json_object_get(json, "format-specific"), "data");
    const char *format = json_string_value(json_object_get(json, "format")), *known = NULL;
    gint64 bytes = json_integer_value(json_object_get(json, "virtual-size"));
    bool ok = false;

    for (size_t i = 0; format && i < G_N_ELEMENTS(formats); i++)
        if (strcmp(format, formats[i]) == 0)
            known = formats[i];
    if (!json)
        ok = false;
    else if (!known)
        kr_fail(error, REFUSED, "its format is %s; qcow2 and raw are taken", format ? format : "not known");
    else if (json_object_get(json, "backing-filename") || json_object_get(json, "full-backing-filename") ||
             json_object_get(data, "data-file"))
        kr_fail(error, REFUSED, "it stands on another file, which could be any of this node");
    else if (json_object_get(data, "encrypt"))
        kr_fail(error, REFUSED, "it is encrypted");
    else if (bytes <= 0 || bytes > VM_MAX_DISK_BYTES)
        kr_fail(error, REFUSED, "its size cannot be");
    else
        ok = true;
    if (ok) {
        *ret_format = known;
        *ret_virtual_bytes = bytes;
    }
    json_decref(json);
    return ok;
}

/* ---- taking ---- */

static bool convert(const char *source, const char *disk, struct vm_image *image, GError **error) {
    const char *info[] = {"qemu-img", "info", "--output=json", source, NULL};
    const char *format = NULL;
    gint64 bytes;
    g_autofree char *text = run(info, error), *out = NULL;

    if (!text || !image_info_check(text, &format, &bytes, error))
        return false;
    image->virtual_bytes = bytes;
    out = run((const char *[]){"qemu-img", "convert", "-f", format, "-O", "qcow2", source, disk, NULL}, error);
    if (out)
        image->sha256 = sha256_of(disk, error);
    return image->sha256 != NULL;
}

static bool copy(const char *from, const char *folder, const char *name, GError **error) {
    g_autofree char *to = g_build_filename(folder, name, NULL);
    g_autofree char *out = run((const char *[]){"cp", "--", from, to, NULL}, error);

    return out != NULL;
}

/* Makes `source` (a path below or outside the folder); the caller frees. */
static char *get(const struct image_wish *wish, const char *folder, GError **error) {
    g_autofree char *path = NULL, *sum = NULL, *out = NULL;

    if (!wish->from) {
        out = run((const char *[]){wish->recipe, folder, NULL}, error);
        return out ? g_build_filename(folder, "disk.raw", NULL) : NULL;
    }
    if (is_url(wish->from)) {
        path = g_build_filename(folder, "fetched", NULL);
        if (!fetch(wish->from, path, error))
            return NULL;
    } else {
        path = g_canonicalize_filename(wish->from, NULL);
    }
    if (wish->sha256) {
        sum = sha256_of(path, error);
        if (!sum)
            return NULL;
        if (g_ascii_strcasecmp(sum, wish->sha256) != 0) {
            kr_fail(error, REFUSED, "its checksum is %s", sum);
            return NULL;
        }
    }
    return g_steal_pointer(&path);
}

static bool has(const char *folder, const char *name) {
    g_autofree char *path = g_build_filename(folder, name, NULL);

    return fs_exists(path);
}

static bool take_append(const struct image_wish *wish, const char *folder, struct vm_image *image) {
    g_autofree char *path = g_build_filename(folder, "append", NULL);

    if (wish->append || !fs_read_file(path, MAX_APPEND_BYTES, &image->append, NULL, NULL))
        image->append = g_strdup(wish->append ? wish->append : "");
    g_strstrip(image->append);
    return fs_remove_plain(path, NULL);
}

static bool fill(const struct image_wish *wish, const char *folder, struct vm_image *image, GError **error) {
    g_autofree char *source = get(wish, folder, error), *disk = g_build_filename(folder, "disk.qcow2", NULL);

    if (!source || !convert(source, disk, image, error))
        return false;
    if (g_str_has_prefix(source, folder))
        unlink(source);
    if ((wish->kernel && !copy(wish->kernel, folder, "kernel", error)) ||
        (wish->initrd && !copy(wish->initrd, folder, "initrd", error)))
        return false;
    image->has_kernel = has(folder, "kernel");
    image->has_initrd = has(folder, "initrd");
    return take_append(wish, folder, image);
}

bool image_import(const struct image_store *store, const struct image_wish *wish, GError **error) {
    struct vm_image *image = g_new0(struct vm_image, 1);
    g_autofree char *folder = NULL;
    bool ok = false;

    image->name = g_strdup(wish->name);
    image->source = g_strdup(wish->from ? wish->from : wish->recipe);
    image->created_ms = clock_wall_ms();
    if (vm_name_check(wish->name, "image name", error) && (folder = image_store_begin(store, error))) {
        if (!fill(wish, folder, image, error))
            image_store_abandon(folder);
        else
            ok = image_store_take(store, folder, image, error);
    }
    vm_image_free(image);
    return ok || (g_prefix_error(error, "image %s: ", wish->name), false);
}
