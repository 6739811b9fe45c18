/* What lies on a node's disk for machines: images, disks, the console's record, who a process is. */

#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "vm/console_log.h"
#include "vm/image_import.h"
#include "vm/image_store.h"
#include "vm/machine_record.h"
#include "vm/process_tag.h"

struct fixture {
    char *folder;
    struct image_store *store;
    GError *error;
};

static void set_up(struct fixture *f, gconstpointer data) {
    f->folder = g_dir_make_tmp("kr-images-XXXXXX", NULL);
    f->store = image_store_new(f->folder, NULL);
}

static void tear_down(struct fixture *f, gconstpointer data) {
    image_store_free(f->store);
    fs_remove_tree(f->folder, NULL);
    g_clear_error(&f->error);
    g_free(f->folder);
}

static bool is_skipped(void) {
    g_autofree char *path = g_find_program_in_path("qemu-img");

    if (!path)
        g_test_skip("qemu-img is not installed");
    return !path;
}

static char *at(struct fixture *f, const char *name) { return g_build_filename(f->folder, name, NULL); }

static void run(const char *const *argv) {
    int status = -1;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, &status, NULL));
    g_assert_cmpint(status, ==, 0);
}

static bool import(struct fixture *f, const char *name, const char *from) {
    struct image_wish wish = {.name = name, .from = from};

    g_clear_error(&f->error);
    return image_import(f->store, &wish, &f->error);
}

static void save_disk(struct fixture *f, uint32_t vps_id, const char *image) {
    struct vm_disk disk = {.vps_id = vps_id,
                           .image = (char *)image,
                           .image_sha256 = (char *)"0",
                           .mac = (char *)"02:00:00:00:00:01",
                           .uuid = (char *)"u",
                           .secret = (char *)"s",
                           .bytes = 1 << 20};

    g_assert_true(disk_store_save(f->store, &disk, NULL));
}

static guint n_in(struct fixture *f, const char *folder) {
    g_autofree char *path = at(f, folder);
    g_auto(GStrv) names = fs_list(path, NULL);

    return g_strv_length(names);
}

static void test_import(struct fixture *f, gconstpointer data) {
    g_autofree char *raw = at(f, "x.raw"), *disk = NULL, *again = at(f, "y.raw");
    g_autoptr(GPtrArray) list = NULL;
    struct stat st;

    if (is_skipped())
        return;
    run((const char *[]){"qemu-img", "create", "-q", "-f", "raw", raw, "3M", NULL});
    g_assert_true(import(f, "deb-12", raw));
    list = image_store_list(f->store);
    g_assert_cmpuint(list->len, ==, 1);
    g_assert_cmpint(((struct vm_image *)list->pdata[0])->virtual_bytes, ==, 3 << 20);
    g_assert_cmpuint(strlen(((struct vm_image *)list->pdata[0])->sha256), ==, 64);
    disk = image_store_path(f->store, "deb-12", "disk.qcow2");
    g_assert_cmpint(stat(disk, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0222, ==, 0);
    g_assert_false(import(f, "deb-12", raw));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_false(import(f, "../x", raw));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_BAD_REQUEST);
    g_assert_false(import(f, "gone", again));
    g_assert_cmpuint(n_in(f, "images"), ==, 1);
}

/* An image that names another file would show the guest any file of the node. */
static void test_backing_file(struct fixture *f, gconstpointer data) {
    g_autofree char *base = at(f, "base.qcow2"), *over = at(f, "over.qcow2"), *text = at(f, "text");

    if (is_skipped())
        return;
    run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", base, "1M", NULL});
    run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", over, NULL});
    g_assert_false(import(f, "bad", over));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_nonnull(strstr(f->error->message, "another file"));
    run((const char *[]){"qemu-img", "convert", "-O", "vmdk", base, text, NULL});
    g_assert_false(import(f, "bad", text));
    g_assert_nonnull(strstr(f->error->message, "vmdk"));
    g_assert_cmpuint(n_in(f, "images"), ==, 0);
}

static void test_info(struct fixture *f, gconstpointer data) {
    static const char *const bad[] = {
        "{}",
        "[]",
        "x",
        "{\"format\":\"qcow2\"}",
        "{\"format\":\"qcow2\",\"virtual-size\":-1}",
        "{\"format\":\"qcow2\",\"virtual-size\":1,\"backing-filename\":\"/etc/shadow\"}",
        "{\"format\":\"qcow2\",\"virtual-size\":1,\"format-specific\":{\"data\":{\"data-file\":\"/etc/shadow\"}}}"};
    const char *format;
    gint64 bytes;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(image_info_check(bad[i], &format, &bytes, NULL));
    g_assert_true(image_info_check("{\"format\":\"raw\",\"virtual-size\":512}", &format, &bytes, NULL));
    g_assert_cmpint(bytes, ==, 512);
}

static void test_delete(struct fixture *f, gconstpointer data) {
    g_autofree char *raw = at(f, "x.raw");

    if (is_skipped())
        return;
    run((const char *[]){"qemu-img", "create", "-q", "-f", "raw", raw, "1M", NULL});
    g_assert_true(import(f, "deb", raw));
    save_disk(f, 7, "deb");
    save_disk(f, 12, "deb");
    save_disk(f, 13, "other");
    g_assert_false(image_store_delete(f->store, "deb", &f->error));
    g_assert_error(f->error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_nonnull(strstr(f->error->message, "7, 12 stand"));
    g_assert_true(disk_store_delete(f->store, 7, NULL));
    g_assert_true(disk_store_delete(f->store, 12, NULL));
    g_assert_true(disk_store_delete(f->store, 99, NULL));
    g_assert_true(image_store_delete(f->store, "deb", NULL));
    g_assert_cmpuint(n_in(f, "images"), ==, 0);
}

/* ---- the console's record ---- */

static GString *read_all(struct console_reader *reader, int *ret_entries) {
    GString *text = g_string_new(NULL);
    int64_t time_ns, last = 0;
    const char *bytes;
    size_t len;

    *ret_entries = 0;
    while (console_reader_next(reader, &time_ns, &bytes, &len)) {
        g_assert_cmpint(time_ns, >, last);
        last = time_ns;
        g_string_append_len(text, bytes, (gssize)len);
        ++*ret_entries;
    }
    return text;
}

static void test_console(struct fixture *f, gconstpointer data) {
    struct console_writer writer;
    struct console_reader reader;
    g_autoptr(GString) first = NULL, more = NULL, later = NULL;
    int n;

    console_writer_init(&writer, f->folder, 1 << 20);
    console_reader_init(&reader, f->folder, 0);
    console_writer_feed(&writer, "one\ntwo\nlog", 11, 100);
    first = read_all(&reader, &n);
    g_assert_cmpstr(first->str, ==, "one\ntwo\n");
    g_assert_cmpint(n, ==, 2);
    console_writer_flush(&writer, 100); /* a clock that stands still */
    console_writer_feed(&writer, "in: \n", 5, 50);
    more = read_all(&reader, &n);
    g_assert_cmpstr(more->str, ==, "login: \n");
    console_reader_clear(&reader);
    console_reader_init(&reader, f->folder, 102); /* that one included */
    later = read_all(&reader, &n);
    g_assert_cmpint(n, ==, 2);
    console_reader_clear(&reader);
    console_writer_clear(&writer);
}

/* However much a guest prints: bounded, and a reader who keeps up misses nothing. */
static void test_console_bounded(struct fixture *f, gconstpointer data) {
    g_autofree char *file = at(f, CONSOLE_LOG_FILE), *old = at(f, CONSOLE_LOG_OLD_FILE), *line = g_strnfill(999, 'x');
    struct console_writer writer;
    struct console_reader reader;
    struct stat a, b;
    size_t seen = 0;

    line[998] = '\n';
    console_writer_init(&writer, f->folder, 64 * 1024);
    console_reader_init(&reader, f->folder, 0);
    for (int i = 0; i < 1000; i++) {
        int n;
        console_writer_feed(&writer, line, 999, i + 1);
        if (i % 20 == 0) {
            g_autoptr(GString) text = read_all(&reader, &n);
            seen += text->len;
        }
    }
    {
        int n;
        g_autoptr(GString) rest = read_all(&reader, &n);
        seen += rest->len;
    }
    g_assert_cmpuint(seen, ==, 999 * 1000);
    g_assert_cmpint(stat(file, &a), ==, 0);
    g_assert_cmpint(stat(old, &b), ==, 0);
    g_assert_cmpint(a.st_size + b.st_size, <=, 64 * 1024);
    console_reader_clear(&reader);
    console_writer_clear(&writer);
}

/* ---- processes ---- */

static void test_process(struct fixture *f, gconstpointer data) {
    struct process_tag tag, read;
    pid_t pid = fork();
    json_t *json;

    if (pid == 0) {
        pause();
        _exit(0);
    }
    g_assert_true(process_tag_of(pid, &tag));
    json = process_tag_to_json(&tag);
    g_assert_true(process_tag_from_json(json, &read, NULL));
    json_decref(json);
    g_assert_true(process_tag_is_running(&read));
    read.start_ticks++; /* the same number, another process */
    g_assert_false(process_tag_is_alive(&read));
    g_assert_cmpint(process_tag_open(&read), ==, -1);
    g_assert_true(process_tag_kill(&read, SIGKILL));
    g_assert_true(process_tag_is_running(&tag));
    g_strlcpy(read.boot_id, "another boot", sizeof read.boot_id);
    read.start_ticks--;
    g_assert_false(process_tag_is_alive(&read));
    g_assert_true(process_tag_kill(&tag, SIGKILL));
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    g_assert_false(process_tag_is_alive(&tag));
}

static void add(const char *name, void (*test)(struct fixture *f, gconstpointer data)) {
    g_test_add(name, struct fixture, NULL, set_up, test, tear_down);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    add("/vm-images/import", test_import);
    add("/vm-images/backing-file", test_backing_file);
    add("/vm-images/info", test_info);
    add("/vm-images/delete", test_delete);
    add("/vm-images/console", test_console);
    add("/vm-images/console-bounded", test_console_bounded);
    add("/vm-images/process", test_process);
    return g_test_run();
}
