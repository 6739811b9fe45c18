/* Any bytes, cut anywhere: what comes out does not depend on the cut. */
#include <glib.h>
#include <stdlib.h>

#include "vm/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_greeting(void *user, const char *version) { g_string_append_printf(user, "g%s;", version); }
static void on_answer(void *user, int64_t id, const json_t *value, const char *failure) {
    g_string_append_printf(user, "a%" G_GINT64_FORMAT "%s;", id, failure ? failure : "");
}
static void on_event(void *user, const char *name, const json_t *data) { g_string_append_printf(user, "e%s;", name); }

static GString *hear(const uint8_t *data, size_t size, size_t cut) {
    static const struct qmp_handlers handlers = {on_greeting, on_answer, on_event};
    GString *text = g_string_new(NULL);
    struct qmp qmp;

    qmp_init(&qmp, &handlers, text);
    if (qmp_feed(&qmp, (const char *)data, cut, NULL))
        qmp_feed(&qmp, (const char *)data + cut, size - cut, NULL);
    qmp_clear(&qmp);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    g_autoptr(GString) whole = hear(data, size, size);
    g_autoptr(GString) cut = hear(data, size, size ? data[0] % (size + 1) : 0);

    if (!g_string_equal(whole, cut))
        abort();
    return 0;
}
