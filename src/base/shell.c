#include "base/shell.h"

#include <stdbool.h>
#include <string.h>

static bool is_plain(const char *word) {
    return word[0] &&
           strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") == strlen(word);
}

void shell_add_word(GString *text, const char *word) {
    g_autofree char *quoted = is_plain(word) ? NULL : g_shell_quote(word);

    if (text->len)
        g_string_append_c(text, ' ');
    g_string_append(text, quoted ? quoted : word);
}
