#pragma once
/* What a machine printed on its serial console, on disk: entries with a time stamp each ("NANOSECONDS LENGTH\n", the bytes,
 * "\n"), at most a line each. Two files share the limit: the older half goes when the newer one is full. Written by the
 * machine's supervisor, read by the runner, also while it is written. Stamps grow strictly. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONSOLE_ENTRY_MAX_BYTES = 4096 };
#define CONSOLE_LOG_FILE "console.log"
#define CONSOLE_LOG_OLD_FILE "console.log.1"

struct console_writer {
    char *folder;
    int fd; /* -1: not open; what comes is dropped */
    int64_t max_bytes, written;
    int64_t last_ns;
    GByteArray *line; /* begun and not ended */
};

/* max_bytes of both files together. */
void console_writer_init(struct console_writer *writer, const char *folder, int64_t max_bytes);
/* Whole lines are written at once, the rest waits for more or for console_writer_flush. Blocks; drops what cannot be written. */
void console_writer_feed(struct console_writer *writer, const char *bytes, size_t len, int64_t now_ns);
void console_writer_flush(struct console_writer *writer, int64_t now_ns);
void console_writer_clear(struct console_writer *writer);

/* Entries from since_ns on, oldest first. */
struct console_reader {
    char *folder;
    int fd; /* -1: not open yet */
    bool is_old;
    int64_t since_ns;
    GByteArray *bytes; /* read; the first `used` of them are done with */
    guint used;
};
void console_reader_init(struct console_reader *reader, const char *folder, int64_t since_ns);
/* The next entry, borrowed until the next call; false: no more at the moment. */
bool console_reader_next(struct console_reader *reader, int64_t *ret_time_ns, const char **ret_bytes, size_t *ret_len);
void console_reader_clear(struct console_reader *reader);

/* Takes one entry off the front of `bytes`: its length with head and tail, 0 when it is not complete, -1 when these are
 * no entries. */
ptrdiff_t console_entry_parse(const char *bytes, size_t len, int64_t *ret_time_ns, const char **ret_text,
                              size_t *ret_text_len);
