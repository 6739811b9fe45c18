#include "vm/console_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

enum { MAX_HEAD_BYTES = 40, READ_BYTES = 64 * 1024 };

/* ---- writing ---- */

static char *in_folder(const char *folder, const char *name) { return g_build_filename(folder, name, NULL); }

static void open_file(struct console_writer *writer) {
    g_autofree char *path = in_folder(writer->folder, CONSOLE_LOG_FILE);
    struct stat st;

    writer->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    writer->written = writer->fd >= 0 && fstat(writer->fd, &st) == 0 ? st.st_size : 0;
}

void console_writer_init(struct console_writer *writer, const char *folder, int64_t max_bytes) {
    *writer = (struct console_writer){
        .folder = g_strdup(folder), .fd = -1, .max_bytes = max_bytes, .line = g_byte_array_new()};
    open_file(writer);
}

static void make_room(struct console_writer *writer, size_t len) {
    g_autofree char *path = in_folder(writer->folder, CONSOLE_LOG_FILE);
    g_autofree char *old = in_folder(writer->folder, CONSOLE_LOG_OLD_FILE);

    if (writer->written == 0 || writer->written + (int64_t)len <= writer->max_bytes / 2)
        return;
    fd_cleanup(&writer->fd);
    if (rename(path, old) == 0)
        open_file(writer);
}

static void write_entry(struct console_writer *writer, const guint8 *bytes, size_t len, int64_t now_ns) {
    g_autoptr(GByteArray) entry = g_byte_array_new();
    char head[MAX_HEAD_BYTES];

    writer->last_ns = MAX(now_ns, writer->last_ns + 1);
    snprintf(head, sizeof head, "%" G_GINT64_FORMAT " %zu\n", writer->last_ns, len);
    g_byte_array_append(entry, (const guint8 *)head, (guint)strlen(head));
    g_byte_array_append(entry, bytes, (guint)len);
    g_byte_array_append(entry, (const guint8 *)"\n", 1);
    make_room(writer, entry->len);
    if (writer->fd >= 0 && fd_write_all(writer->fd, entry->data, entry->len))
        writer->written += entry->len;
}

void console_writer_flush(struct console_writer *writer, int64_t now_ns) {
    if (writer->line->len > 0)
        write_entry(writer, writer->line->data, writer->line->len, now_ns);
    g_byte_array_set_size(writer->line, 0);
}

void console_writer_feed(struct console_writer *writer, const char *bytes, size_t len, int64_t now_ns) {
    while (len > 0) {
        size_t room = CONSOLE_ENTRY_MAX_BYTES - writer->line->len;
        const char *newline = memchr(bytes, '\n', MIN(len, room));
        size_t n = newline ? (size_t)(newline - bytes) + 1 : MIN(len, room);
        g_byte_array_append(writer->line, (const guint8 *)bytes, (guint)n);
        if (newline || writer->line->len == CONSOLE_ENTRY_MAX_BYTES)
            console_writer_flush(writer, now_ns);
        bytes += n;
        len -= n;
    }
}

void console_writer_clear(struct console_writer *writer) {
    fd_cleanup(&writer->fd);
    g_clear_pointer(&writer->line, g_byte_array_unref);
    g_clear_pointer(&writer->folder, g_free);
}

/* ---- reading ---- */

ptrdiff_t console_entry_parse(const char *bytes, size_t len, int64_t *ret_time_ns, const char **ret_text,
                              size_t *ret_text_len) {
    const char *newline = len ? memchr(bytes, '\n', MIN(len, MAX_HEAD_BYTES)) : NULL;
    char head[MAX_HEAD_BYTES + 1] = "", *space;
    guint64 n;
    gint64 time_ns;

    if (!newline)
        return len < MAX_HEAD_BYTES ? 0 : -1;
    memcpy(head, bytes, (size_t)(newline - bytes));
    space = strchr(head, ' ');
    if (!space || strlen(head) != (size_t)(newline - bytes))
        return -1;
    *space = '\0';
    if (!g_ascii_string_to_signed(head, 10, 0, G_MAXINT64, &time_ns, NULL) ||
        !g_ascii_string_to_unsigned(space + 1, 10, 1, CONSOLE_ENTRY_MAX_BYTES, &n, NULL))
        return -1;
    if (len < (size_t)(newline - bytes) + 1 + n + 1)
        return 0;
    if (newline[1 + n] != '\n')
        return -1;
    *ret_time_ns = time_ns;
    *ret_text = newline + 1;
    *ret_text_len = n;
    return (newline - bytes) + 1 + (ptrdiff_t)n + 1;
}

void console_reader_init(struct console_reader *reader, const char *folder, int64_t since_ns) {
    *reader = (struct console_reader){
        .folder = g_strdup(folder), .fd = -1, .since_ns = since_ns, .bytes = g_byte_array_new()};
}

void console_reader_clear(struct console_reader *reader) {
    fd_cleanup(&reader->fd);
    g_clear_pointer(&reader->bytes, g_byte_array_unref);
    g_clear_pointer(&reader->folder, g_free);
}

static bool open_next(struct console_reader *reader, bool is_old) {
    g_autofree char *path = in_folder(reader->folder, is_old ? CONSOLE_LOG_OLD_FILE : CONSOLE_LOG_FILE);

    fd_cleanup(&reader->fd);
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    reader->is_old = is_old;
    g_byte_array_set_size(reader->bytes, 0);
    reader->used = 0;
    return reader->fd >= 0;
}

/* Is there a newer file? What was current may have become the old one meanwhile, under its name. */
static bool has_newer(const struct console_reader *reader) {
    g_autofree char *path = in_folder(reader->folder, CONSOLE_LOG_FILE);
    struct stat mine, current;

    return stat(path, &current) == 0 && fstat(reader->fd, &mine) == 0 &&
           (mine.st_ino != current.st_ino || mine.st_dev != current.st_dev);
}

static bool fill(struct console_reader *reader) {
    GByteArray *bytes = reader->bytes;
    guint len;
    ssize_t n;

    g_byte_array_remove_range(bytes, 0, reader->used);
    reader->used = 0;
    len = bytes->len;
    g_byte_array_set_size(bytes, len + READ_BYTES);
    n = read(reader->fd, bytes->data + len, READ_BYTES);
    g_byte_array_set_size(bytes, len + (guint)MAX(n, 0));
    return n > 0;
}

/* What was written between the end that was seen and the change of files is read before the newer one. */
static bool read_on(struct console_reader *reader) {
    if (reader->fd < 0)
        return open_next(reader, true) || open_next(reader, false);
    if (fill(reader))
        return true;
    return has_newer(reader) && (fill(reader) || open_next(reader, false));
}

bool console_reader_next(struct console_reader *reader, int64_t *ret_time_ns, const char **ret_bytes, size_t *ret_len) {
    for (;;) {
        const char *at = (const char *)reader->bytes->data + reader->used;
        ptrdiff_t n = console_entry_parse(at, reader->bytes->len - reader->used, ret_time_ns, ret_bytes, ret_len);
        if (n < 0) { /* a write that was cut: what was read of this file cannot be used */
            reader->used = reader->bytes->len;
            n = 0;
        }
        if (n == 0 && !read_on(reader))
            return false;
        reader->used += (guint)n;
        if (n > 0 && *ret_time_ns >= reader->since_ns)
            return true;
    }
}
