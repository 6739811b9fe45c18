#include "engine/docker_stream.h"

#include <glib.h>
#include <string.h>

#include "base/clock.h"

/* What came out, as text: "<stream>@<ns>:<bytes>;" per entry. */
struct seen {
    GString *text;
    struct docker_stream stream;
};

static void on_entry(void *user, enum engine_stream stream, int64_t time_ns) {
    g_string_append_printf(((struct seen *)user)->text, "%d@%" G_GINT64_FORMAT ":", stream, time_ns);
}
static void on_bytes(void *user, const char *bytes, size_t len) {
    g_string_append_len(((struct seen *)user)->text, bytes, (gssize)len);
}
static void on_entry_end(void *user) { g_string_append_c(((struct seen *)user)->text, ';'); }

static const struct engine_log_sink sink = {.on_entry = on_entry, .on_bytes = on_bytes, .on_entry_end = on_entry_end};

static void seen_init(struct seen *seen) {
    seen->text = g_string_new(NULL);
    docker_stream_init(&seen->stream, &sink, seen);
}

static void frame(GByteArray *out, int stream, const char *payload, size_t len) {
    guint8 head[8] = {(guint8)stream,     0,          0, 0, (guint8)(len >> 24), (guint8)(len >> 16),
                      (guint8)(len >> 8), (guint8)len};

    g_byte_array_append(out, head, 8);
    g_byte_array_append(out, (const guint8 *)payload, (guint)len);
}

static GByteArray *sample(void) {
    GByteArray *out = g_byte_array_new();

    frame(out, 1, "1970-01-01T00:00:01.000000002Z hello\n", 37);
    frame(out, 2, "1970-01-01T00:00:02Z \0\xff\n", 24);
    frame(out, 1, "1970-01-01T01:00:03.5+01:00 ", 28);
    frame(out, 3, "Error grabbing logs: bad entry\n", 31);
    frame(out, 0, "1970-01-01T00:00:04Z x", 22);
    return out;
}
static const char sample_text[] = "1@1000000002:hello\n;2@2000000000:\0\xff\n;1@3500000000:;2@3500000000:Error "
                                  "grabbing logs: bad entry\n;1@4000000000:x;";

/* However the bytes are cut, the same comes out. */
static void test_every_cut(void) {
    g_autoptr(GByteArray) bytes = sample();

    for (guint step = 1; step <= bytes->len; step++) {
        struct seen seen;
        seen_init(&seen);
        for (guint at = 0; at < bytes->len; at += step) {
            size_t n = MIN(step, bytes->len - at);
            g_assert_true(docker_stream_feed(&seen.stream, (const char *)bytes->data + at, n));
        }
        g_assert_cmpmem(seen.text->str, seen.text->len, sample_text, sizeof sample_text - 1);
        g_assert_true(docker_stream_is_between(&seen.stream));
        g_string_free(seen.text, TRUE);
    }
}

static void test_cut_is_noticed(void) {
    g_autoptr(GByteArray) bytes = sample();

    for (guint len = 1; len < bytes->len; len++) {
        struct seen seen;
        bool is_border = len == 45 || len == 45 + 32 || len == 45 + 32 + 36 || len == 45 + 32 + 36 + 39;
        seen_init(&seen);
        g_assert_true(docker_stream_feed(&seen.stream, (const char *)bytes->data, len));
        g_assert_cmpint(docker_stream_is_between(&seen.stream), ==, is_border);
        g_string_free(seen.text, TRUE);
    }
}

static void check_broken(int stream, const char *payload) {
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    struct seen seen;

    frame(bytes, stream, payload, strlen(payload));
    seen_init(&seen);
    g_assert_false(docker_stream_feed(&seen.stream, (const char *)bytes->data, bytes->len));
    g_assert_false(docker_stream_feed(&seen.stream, "\1", 1));
    g_assert_false(docker_stream_is_between(&seen.stream));
    g_string_free(seen.text, TRUE);
}

static void test_malformed(void) {
    check_broken(4, "1970-01-01T00:00:01Z x");
    check_broken(3, "");
    check_broken('{', "\"message\":\"no\"}");
    check_broken(1, "");
    check_broken(1, "no time stamp at all");
    check_broken(1, "1970-01-01T00:00:01Z");
    check_broken(1, "1970-13-01T00:00:01Z x");
    check_broken(1, "1970-01-01T00:00:01.0000000000000000000000000000000000000000001Z x");
}

static void check_time(const char *text, bool ok, int64_t ns) {
    int64_t got = -1;

    g_assert_cmpint(docker_time_from_str(text, strlen(text), &got), ==, ok);
    g_assert_cmpint(got, ==, ok ? ns : -1);
}

static void test_times(void) {
    check_time("2026-11-22T21:09:51.123456789Z", true, 1795381791123456789);
    check_time("2024-02-29T23:59:59Z", true, 1709251199000000000);
    check_time("2024-03-01T00:59:59+01:00", true, 1709251199000000000);
    check_time("0001-01-01T00:00:00Z", true, 0);
    check_time("2026-11-22T21:09:51.Z", false, 0);
    check_time("2026-11-22 21:09:51Z", false, 0);
    check_time("2026-11-22T21:09:51", false, 0);
    check_time("2026-11-22T24:09:51Z", false, 0);
    check_time("2026-11-22T21:09:51Zx", false, 0);
    check_time("9999-11-22T21:09:51Z", false, 0);
    check_time("", false, 0);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/engine/docker-stream/every-cut", test_every_cut);
    g_test_add_func("/engine/docker-stream/an-early-end-is-noticed", test_cut_is_noticed);
    g_test_add_func("/engine/docker-stream/malformed", test_malformed);
    g_test_add_func("/engine/docker-stream/times", test_times);
    return g_test_run();
}
