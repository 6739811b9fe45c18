/* Any bytes, cut anywhere: the pump neither reads too far nor loses its place between on_entry and on_entry_end. */
#include <stdlib.h>

#include "engine/docker_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_entry(void *user, enum engine_stream stream, int64_t time_ns) {
    if ((*(int *)user)++ != 0 || time_ns < 0 || (stream != ENGINE_STDOUT && stream != ENGINE_STDERR))
        abort();
}
static void on_bytes(void *user, const char *bytes, size_t len) {
    if (*(int *)user != 1 || len == 0)
        abort();
}
static void on_entry_end(void *user) {
    if ((*(int *)user)-- != 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct engine_log_sink sink = {
        .on_entry = on_entry, .on_bytes = on_bytes, .on_entry_end = on_entry_end};
    struct docker_stream stream;
    int depth = 0;
    size_t cut = size ? data[0] % (size + 1) : 0;

    docker_stream_init(&stream, &sink, &depth);
    docker_stream_feed(&stream, (const char *)data, cut);
    docker_stream_feed(&stream, (const char *)data + cut, size - cut);
    if (docker_stream_is_between(&stream) && depth != 0)
        abort();
    return 0;
}
