/* Whatever lies in /etc/cdi: understood or refused with a message, within its bounds. */
#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "doctor/cdi_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = g_strndup((const char *)data, size);
    GError *error = NULL;
    struct cdi_spec *spec = cdi_spec_parse(text, strlen(text), &error);

    if ((spec != NULL) != (error == NULL))
        abort();
    if (spec &&
        (!strchr(spec->kind, '/') || spec->devices->len > CDI_MAX_DEVICES || spec->nodes->len > CDI_MAX_DEVICES))
        abort();
    g_clear_error(&error);
    cdi_spec_free(spec);
    g_free(text);
    return 0;
}
