/* The target grammar: whatever is accepted has one canonical form, which parses to the same. */

#include <stdint.h>
#include <string.h>

#include "model/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct target one, two;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    g_autofree char *again = NULL;

    if (!target_from_str((const char *)data, size, &one, &error)) {
        g_assert(error && error->message[0] && !strchr(error->message, '\n'));
        return 0;
    }
    text = target_to_str(&one);
    g_assert(strlen(text) == size && memcmp(text, data, size) == 0);
    g_assert(target_from_str(text, strlen(text), &two, NULL));
    again = target_to_str(&two);
    g_assert(strcmp(text, again) == 0);
    return 0;
}
