#include "model/target.h"

#include <string.h>

#include "base/error.h"

static const char grammar[] = "write NODE[:NUMA][::GPU[,GPU...]], for example mynode::0,1";

/* A printable, bounded copy of user input for messages. */
static char *quoted(const char *text, size_t len) {
    g_autofree char *head = g_strndup(text, MIN(len, 64));
    g_autofree char *valid = g_utf8_make_valid(head, -1);
    g_autofree char *escaped = g_strescape(valid, NULL);

    return g_strdup_printf("\"%s%s\"", escaped, len > 64 ? "..." : "");
}

bool node_name_check(const char *name, size_t len, GError **error) {
    g_autofree char *shown = quoted(name, len);

    if (len == 0)
        return kr_fail(error, BAD_REQUEST, "the node's name is empty");
    if (len > NODE_NAME_MAX_BYTES)
        return kr_fail(error, BAD_REQUEST, "the node's name %s has %zu characters, at most %d are allowed", shown, len,
                       NODE_NAME_MAX_BYTES);
    for (size_t i = 0; i < len; i++)
        if (!g_ascii_isalnum(name[i]) && !(name[i] != '\0' && strchr("-._", name[i])))
            return kr_fail(error, BAD_REQUEST,
                           "the node's name %s has a character that is not a letter, a digit, '-', '.' or '_'", shown);
    if (!g_ascii_isalnum(name[0]) || !g_ascii_isalnum(name[len - 1]))
        return kr_fail(error, BAD_REQUEST, "the node's name %s must begin and end with a letter or a digit", shown);
    return true;
}

/* One decimal number without sign, blanks or leading zeros. `what` names it: "GPU index", "NUMA node". */
static bool parse_number(const char *text, size_t len, const char *what, int *ret_number, GError **error) {
    g_autofree char *shown = quoted(text, len);
    int number = 0;

    if (len == 0)
        return kr_fail(error, BAD_REQUEST, "a %s is missing", what);
    for (size_t i = 0; i < len; i++)
        if (!g_ascii_isdigit(text[i]))
            return kr_fail(error, BAD_REQUEST, "the %s %s is not a whole number from 0 to %d", what, shown,
                           TARGET_MAX_NUMBER);
    if (len > 1 && text[0] == '0')
        return kr_fail(error, BAD_REQUEST, "the %s %s has a leading zero", what, shown);
    for (size_t i = 0; i < len; i++) {
        number = number * 10 + (text[i] - '0');
        if (number > TARGET_MAX_NUMBER)
            return kr_fail(error, BAD_REQUEST, "the %s %s is too large, the highest possible is %d", what, shown,
                           TARGET_MAX_NUMBER);
    }
    *ret_number = number;
    return true;
}

static bool add_gpu(struct target *target, int index, GError **error) {
    for (size_t i = 0; i < target->n_gpus; i++)
        if (target->gpus[i] == index)
            return kr_fail(error, BAD_REQUEST, "the GPU index %d is given twice", index);
    if (target->n_gpus == TARGET_MAX_GPUS)
        return kr_fail(error, BAD_REQUEST, "more than %d GPUs are asked for", TARGET_MAX_GPUS);
    target->gpus[target->n_gpus++] = index;
    return true;
}

static bool parse_gpus(const char *text, size_t len, struct target *target, GError **error) {
    const char *end = text + len;

    if (len == 0)
        return kr_fail(error, BAD_REQUEST, "no GPU index follows \"::\"");
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma ? comma : end;
        int index = 0;

        if (!parse_number(text, (size_t)(stop - text), "GPU index", &index, error) || !add_gpu(target, index, error))
            return false;
        if (!comma)
            return true;
        text = comma + 1;
    }
}

static bool parse(const char *text, size_t len, struct target *target, GError **error) {
    const char *gpus = g_strstr_len(text, (gssize)len, "::");
    size_t head = gpus ? (size_t)(gpus - text) : len;
    const char *colon = memchr(text, ':', head);
    size_t name = colon ? (size_t)(colon - text) : head;

    if (!node_name_check(text, name, error))
        return false;
    memcpy(target->node, text, name);
    if (colon && !parse_number(colon + 1, head - name - 1, "NUMA node", &target->numa, error))
        return false;
    return !gpus || parse_gpus(gpus + 2, len - head - 2, target, error);
}

bool target_from_str(const char *text, size_t len, struct target *ret_target, GError **error) {
    struct target target = {.numa = TARGET_NO_NUMA};
    g_autofree char *copy = g_strndup(text, len); /* g_strstr_len stops at a NUL; so does the length check below */
    g_autofree char *shown = quoted(text, len);
    g_autoptr(GError) why = NULL;

    if (len > TARGET_MAX_BYTES)
        return kr_fail(error, BAD_REQUEST, "target %s has %zu bytes, at most %d are allowed", shown, len,
                       TARGET_MAX_BYTES);
    if (strlen(copy) != len)
        return kr_fail(error, BAD_REQUEST, "target %s contains a NUL byte", shown);
    if (!parse(copy, len, &target, &why))
        return kr_fail(error, BAD_REQUEST, "target %s: %s; %s", shown, why->message, grammar);
    *ret_target = target;
    return true;
}

char *target_to_str(const struct target *target) {
    GString *text = g_string_new(target->node);

    if (target->numa != TARGET_NO_NUMA)
        g_string_append_printf(text, ":%d", target->numa);
    for (size_t i = 0; i < target->n_gpus; i++)
        g_string_append_printf(text, "%s%d", i == 0 ? "::" : ",", target->gpus[i]);
    return g_string_free(text, FALSE);
}
