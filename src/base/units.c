#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const char suffixes[] = "KMGTP";

bool units_bytes_from_str(const char *text, int64_t *ret_bytes, GError **error) {
    const char *suffix;
    double number, factor = 1;
    char *end;

    if (!g_ascii_isdigit(text[0]))
        goto bad;
    number = g_ascii_strtod(text, &end);
    if (end != text && g_ascii_toupper(*end) != '\0' && (suffix = strchr(suffixes, g_ascii_toupper(*end)))) {
        factor = pow(1024, (double)(suffix - suffixes + 1));
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B')
        end++;
    if (*end != '\0' || strpbrk(text, "eExX") || !(number * factor <= 0x1p60))
        goto bad;
    *ret_bytes = (int64_t)(number * factor);
    return true;
bad:
    return kr_fail(error, BAD_REQUEST, "\"%s\" is not a size: write a number of bytes or one such as 512M, 16G, 1.5T",
                   text);
}

const char *units_bytes_to_str(int64_t bytes, char buf[static UNITS_TEXT_BYTES]) {
    double n = (double)bytes;
    int step = -1;

    while (n >= 1023.95 && step < (int)sizeof suffixes - 2) {
        n /= 1024;
        step++;
    }
    if (step < 0)
        snprintf(buf, UNITS_TEXT_BYTES, "%" PRId64 " B", bytes);
    else
        snprintf(buf, UNITS_TEXT_BYTES, "%.1f %ciB", n, suffixes[step]);
    return buf;
}

bool units_span_from_str(const char *text, int64_t *ret_span_ms, GError **error) {
    static const struct {
        const char *suffix;
        int64_t ms;
    } steps[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end = NULL;
    guint64 number = g_ascii_isdigit(text[0]) ? g_ascii_strtoull(text, &end, 10) : 0;

    for (size_t i = 0; end && number > 0 && i < G_N_ELEMENTS(steps); i++)
        if (strcmp(end, steps[i].suffix) == 0 && number <= (guint64)(1000 * 86400000LL / steps[i].ms)) {
            *ret_span_ms = (int64_t)number * steps[i].ms;
            return true;
        }
    return kr_fail(error, BAD_REQUEST, "\"%s\" is not a span of time: write one such as 30s, 30m, 2h or 7d", text);
}

const char *units_span_to_str(int64_t span_ms, char buf[static UNITS_TEXT_BYTES]) {
    int64_t s = span_ms > 0 ? span_ms / 1000 : 0;

    if (s < 60)
        snprintf(buf, UNITS_TEXT_BYTES, "%" PRId64 "s", s);
    else if (s < 3600)
        snprintf(buf, UNITS_TEXT_BYTES, "%" PRId64 "m %" PRId64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(buf, UNITS_TEXT_BYTES, "%" PRId64 "h %" PRId64 "m", s / 3600, s % 3600 / 60);
    else
        snprintf(buf, UNITS_TEXT_BYTES, "%" PRId64 "d %" PRId64 "h", s / 86400, s % 86400 / 3600);
    return buf;
}
