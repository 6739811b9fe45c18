/* The WebSocket pump, server side: any bytes in, in pieces; what it wants to send can be taken. */

#include <stdint.h>

#include "net/ws_pump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_text(void *user, const char *text, size_t len) {
    g_assert(text[len] == '\0');
    ws_pump_text(*(struct ws_pump **)user, text, MIN(len, 1000));
}

static void on_binary(void *user, const void *bytes, size_t len) {
    (void)user;
    (void)bytes;
    (void)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct ws_pump_events events = {on_text, on_binary};
    struct ws_pump *pump = NULL;
    size_t piece = size > 0 ? (size_t)data[0] % 64 + 1 : 1;
    char out[512];

    pump = ws_pump_new(true, &events, &pump);
    for (size_t at = 0; at < size; at += piece) {
        bool ok = ws_pump_feed(pump, data + at, MIN(piece, size - at));
        while (ws_pump_take(pump, out, sizeof out) > 0)
            ;
        if (!ok)
            break;
    }
    ws_pump_free(pump);
    return 0;
}
