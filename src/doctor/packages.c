/* What dpkg has installed and holds, from its own file. */
#include <string.h>

#include "doctor/facts_internal.h"

enum { DPKG_MAX_BYTES = 64 << 20 };

static const char *dpkg(struct doctor_case *c) {
    if (!c->facts->dpkg) {
        c->facts->dpkg = doctor_root_read(c->root, "/var/lib/dpkg/status", DPKG_MAX_BYTES);
        if (!c->facts->dpkg) {
            c->facts->dpkg_trouble = g_strdup(doctor_root_trouble(c->root));
            c->facts->dpkg = g_strdup("");
        }
    }
    doctor_root_set_trouble(c->root, c->facts->dpkg_trouble); /* for those who ask later too */
    return c->facts->dpkg;
}

/* The next paragraph's text, g_free; *at goes behind it. NULL at the end. */
static char *next_paragraph(const char **at) {
    const char *end;
    char *text;

    *at += strspn(*at, "\n");
    if (!**at)
        return NULL;
    end = strstr(*at, "\n\n");
    text = end ? g_strndup(*at, (gsize)(end - *at)) : g_strdup(*at);
    *at += strlen(text);
    return text;
}

static char *line_of(const char *paragraph, const char *name) {
    g_autofree char *inner = g_strconcat("\n", name, ": ", NULL);
    const char *at = g_str_has_prefix(paragraph, inner + 1) ? paragraph - 1 : strstr(paragraph, inner);

    if (!at)
        return NULL;
    at += strlen(inner);
    return g_strndup(at, strcspn(at, "\n"));
}

/* "install ok installed", "hold ok installed"; removed packages that left their configuration are not installed. */
static bool is_installed(const char *paragraph, bool *ret_is_held) {
    g_autofree char *status = line_of(paragraph, "Status");

    *ret_is_held = status && g_str_has_prefix(status, "hold ");
    return status && g_str_has_suffix(status, " installed");
}

char *doctor_package(struct doctor_case *c, const char *name, bool *ret_is_held) {
    g_autofree char *head = g_strconcat("Package: ", name, "\n", NULL);
    const char *at = dpkg(c);
    char *paragraph;

    for (; (paragraph = next_paragraph(&at)); g_free(paragraph))
        if (g_str_has_prefix(paragraph, head) && is_installed(paragraph, ret_is_held)) {
            char *version = line_of(paragraph, "Version");
            g_free(paragraph);
            return version;
        }
    return NULL;
}

char *doctor_packages_like(struct doctor_case *c, const char *prefix, bool held) {
    g_autofree char *head = g_strconcat("Package: ", prefix, NULL);
    GString *names = g_string_new(NULL);
    const char *at = dpkg(c);
    char *paragraph;
    bool is_held;

    for (; (paragraph = next_paragraph(&at)); g_free(paragraph))
        if (g_str_has_prefix(paragraph, head) && is_installed(paragraph, &is_held) && is_held == held) {
            g_autofree char *name = line_of(paragraph, "Package");
            g_string_append_printf(names, "%s%s", names->len ? " " : "", name);
        }
    return g_string_free(names, FALSE);
}
