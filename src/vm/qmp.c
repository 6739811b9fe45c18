#include "vm/qmp.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"

void qmp_init(struct qmp *qmp, const struct qmp_handlers *handlers, void *user) {
    *qmp = (struct qmp){.handlers = handlers, .user = user, .line = g_byte_array_new()};
}

void qmp_clear(struct qmp *qmp) { g_clear_pointer(&qmp->line, g_byte_array_unref); }

static void take_greeting(struct qmp *qmp, const json_t *greeting) {
    const json_t *qemu = json_object_get(json_object_get(greeting, "version"), "qemu");
    g_autofree char *version = g_strdup_printf("%d.%d.%d", (int)json_integer_value(json_object_get(qemu, "major")),
                                               (int)json_integer_value(json_object_get(qemu, "minor")),
                                               (int)json_integer_value(json_object_get(qemu, "micro")));

    qmp->handlers->on_greeting(qmp->user, version);
}

/* An error without an id answers no command of ours: what was sent could not be read. */
static bool take_answer(struct qmp *qmp, const json_t *message, const json_t *failure, GError **error) {
    const json_t *id = json_object_get(message, "id");
    const char *class = json_string_value(json_object_get(failure, "class"));
    const char *desc = json_string_value(json_object_get(failure, "desc"));
    g_autofree char *text = failure ? g_strdup_printf("%s: %s", class ? class : "error", desc ? desc : "") : NULL;

    if (!json_is_integer(id))
        return kr_fail(error, IO, "QMP: an answer without an id: %s", text ? text : "no error");
    qmp->handlers->on_answer(qmp->user, json_integer_value(id), json_object_get(message, "return"), text);
    return true;
}

static bool take_message(struct qmp *qmp, const json_t *message, GError **error) {
    const json_t *greeting = json_object_get(message, "QMP"), *failure = json_object_get(message, "error");
    const char *event = json_string_value(json_object_get(message, "event"));

    if (json_is_object(greeting))
        take_greeting(qmp, greeting);
    else if (event)
        qmp->handlers->on_event(qmp->user, event, json_object_get(message, "data"));
    else if (json_is_object(failure) || json_object_get(message, "return"))
        return take_answer(qmp, message, json_is_object(failure) ? failure : NULL, error);
    else
        return kr_fail(error, IO, "QMP: a message that is neither greeting, answer nor event");
    return true;
}

static bool take_line(struct qmp *qmp, const char *text, size_t len, GError **error) {
    g_autoptr(GError) why = NULL;
    json_t *message;
    bool ok;

    while (len > 0 && g_ascii_isspace(text[len - 1]))
        len--;
    if (len == 0)
        return true;
    message = jsonx_parse(text, len, &why);
    if (!message)
        return kr_fail(error, IO, "QMP: %s", why->message);
    ok = take_message(qmp, message, error);
    json_decref(message);
    return ok;
}

bool qmp_feed(struct qmp *qmp, const char *bytes, size_t len, GError **error) {
    while (len > 0 && !qmp->is_broken) {
        const char *newline = memchr(bytes, '\n', len);
        size_t n = newline ? (size_t)(newline - bytes) : len;
        if (qmp->line->len + n > QMP_MAX_LINE_BYTES) {
            qmp->is_broken = true;
            return kr_fail(error, IO, "QMP: a message of more than %d bytes", QMP_MAX_LINE_BYTES);
        }
        g_byte_array_append(qmp->line, (const guint8 *)bytes, (guint)n);
        if (!newline)
            return true;
        bytes += n + 1;
        len -= n + 1;
        qmp->is_broken = !take_line(qmp, (const char *)qmp->line->data, qmp->line->len, error);
        g_byte_array_set_size(qmp->line, 0);
        if (qmp->is_broken)
            return false;
    }
    return !qmp->is_broken || kr_fail(error, IO, "QMP: the stream is broken");
}

char *qmp_command(int64_t id, const char *name, json_t *arguments) {
    json_t *command = json_pack("{s:s,s:I}", "execute", name, "id", (json_int_t)id);
    g_autofree char *text = NULL;

    if (arguments)
        json_object_set_new(command, "arguments", arguments);
    text = jsonx_to_str(command);
    json_decref(command);
    return g_strconcat(text, "\n", NULL);
}
