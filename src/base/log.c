#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

static enum log_level max_level = LOG_LEVEL_INFO; /* set once by main before any thread starts */
static bool to_journal = false;

void log_init(enum log_level level) {
    max_level = level;
    to_journal = getenv("JOURNAL_STREAM") != NULL;
}

static const char *level_name(enum log_level level) {
    switch (level) {
    case LOG_LEVEL_ERROR: return "error";
    case LOG_LEVEL_WARNING: return "warning";
    case LOG_LEVEL_INFO: return "info";
    case LOG_LEVEL_DEBUG: return "debug";
    }
    return "?";
}

enum log_level log_level_from_str(const char *text) {
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_DEBUG};

    for (size_t i = 0; i < G_N_ELEMENTS(levels); i++)
        if (g_strcmp0(text, level_name(levels[i])) == 0)
            return levels[i];
    return LOG_LEVEL_INFO;
}

void log_at(enum log_level level, const char *format, ...) {
    g_autofree char *text = NULL;
    char when[CLOCK_TEXT_BYTES];
    va_list args;

    if (level > max_level)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_strdelimit(text, "\n\r", ' ');
    if (to_journal)
        fprintf(stderr, "<%d>%s\n", (int)level, text);
    else
        fprintf(stderr, "%s %-7s %s\n", clock_utc_to_str(clock_wall_ms(), when), level_name(level), text);
}
