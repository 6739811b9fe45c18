#include "engine/docker_stream.h"

#include <glib.h>
#include <string.h>

enum { SYSTEM_ERROR = 3 };

void docker_stream_init(struct docker_stream *stream, const struct engine_log_sink *sink, void *user) {
    *stream = (struct docker_stream){.sink = sink, .user = user};
}

/* ---- time stamps ---- */

static bool digits(const char **text, const char *end, int n, int *ret_value) {
    int value = 0;

    for (; n > 0; n--, (*text)++) {
        if (*text >= end || !g_ascii_isdigit(**text))
            return false;
        value = value * 10 + (**text - '0');
    }
    *ret_value = value;
    return true;
}

static bool literal(const char **text, const char *end, char c) { return *text < end && *(*text)++ == c; }

/* Days since 1970-01-01 in the proleptic Gregorian calendar. */
static int64_t days_from_date(int year, int month, int day) {
    int64_t y = year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static bool fraction(const char **text, const char *end, int64_t *ret_ns) {
    int64_t unit = 100000000;

    *ret_ns = 0;
    if (*text >= end || **text != '.')
        return true;
    (*text)++;
    if (*text >= end || !g_ascii_isdigit(**text))
        return false;
    for (; *text < end && g_ascii_isdigit(**text); (*text)++, unit /= 10)
        *ret_ns += (**text - '0') * unit;
    return true;
}

static bool zone(const char **text, const char *end, int *ret_minutes) {
    int hours, minutes, sign;

    *ret_minutes = 0;
    if (*text < end && **text == 'Z') {
        (*text)++;
        return true;
    }
    if (*text >= end || (**text != '+' && **text != '-'))
        return false;
    sign = *(*text)++ == '-' ? -1 : 1;
    if (!digits(text, end, 2, &hours) || !literal(text, end, ':') || !digits(text, end, 2, &minutes))
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

bool docker_time_from_str(const char *text, size_t len, int64_t *ret_ns) {
    const char *at = text, *end = text + len;
    int year, month, day, hour, minute, second, offset;
    int64_t ns, seconds;

    if (!digits(&at, end, 4, &year) || !literal(&at, end, '-') || !digits(&at, end, 2, &month) ||
        !literal(&at, end, '-') || !digits(&at, end, 2, &day) || !literal(&at, end, 'T') ||
        !digits(&at, end, 2, &hour) || !literal(&at, end, ':') || !digits(&at, end, 2, &minute) ||
        !literal(&at, end, ':') || !digits(&at, end, 2, &second) || !fraction(&at, end, &ns) ||
        !zone(&at, end, &offset) || at != end)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || second > 60 || year > 2250)
        return false;
    seconds = days_from_date(year, month, day) * 86400 + hour * 3600 + (minute - offset) * 60 + second;
    *ret_ns = year < 1970 ? 0 : seconds * 1000000000 + ns;
    return true;
}

/* ---- frames ---- */

static bool broken(struct docker_stream *stream) {
    stream->is_broken = true;
    return false;
}

static bool end_frame(struct docker_stream *stream) {
    if (!stream->has_time)
        return broken(stream);
    stream->sink->on_entry_end(stream->user);
    stream->head_len = stream->time_len = 0;
    stream->has_time = false;
    return true;
}

static bool begin_frame(struct docker_stream *stream) {
    const unsigned char *head = stream->head;

    if (head[0] > SYSTEM_ERROR || head[1] || head[2] || head[3])
        return broken(stream);
    stream->left = (uint32_t)head[4] << 24 | (uint32_t)head[5] << 16 | (uint32_t)head[6] << 8 | head[7];
    if (stream->left == 0) /* the time stamp alone is longer */
        return broken(stream);
    if (head[0] == SYSTEM_ERROR) {
        stream->has_time = true;
        stream->sink->on_entry(stream->user, ENGINE_STDERR, stream->last_ns);
    }
    return true;
}

static bool take_time(struct docker_stream *stream, char c) {
    stream->left--;
    if (c != ' ') {
        if (stream->time_len == sizeof stream->time || stream->left == 0)
            return broken(stream);
        stream->time[stream->time_len++] = c;
        return true;
    }
    if (!docker_time_from_str(stream->time, stream->time_len, &stream->last_ns))
        return broken(stream);
    stream->has_time = true;
    stream->sink->on_entry(stream->user, stream->head[0] == 2 ? ENGINE_STDERR : ENGINE_STDOUT, stream->last_ns);
    return stream->left > 0 || end_frame(stream);
}

/* Takes at least one byte; false when the stream is broken. */
static bool step(struct docker_stream *stream, const char **bytes, size_t *len) {
    size_t n = 1;

    if (stream->head_len < sizeof stream->head) {
        stream->head[stream->head_len++] = (unsigned char)**bytes;
        if (stream->head_len == sizeof stream->head && !begin_frame(stream))
            return false;
    } else if (!stream->has_time) {
        if (!take_time(stream, **bytes))
            return false;
    } else {
        n = MIN(*len, stream->left);
        stream->sink->on_bytes(stream->user, *bytes, n);
        stream->left -= (uint32_t)n;
        if (stream->left == 0 && !end_frame(stream))
            return false;
    }
    *bytes += n;
    *len -= n;
    return true;
}

bool docker_stream_feed(struct docker_stream *stream, const char *bytes, size_t len) {
    while (len > 0)
        if (stream->is_broken || !step(stream, &bytes, &len))
            return false;
    return !stream->is_broken;
}

bool docker_stream_is_between(const struct docker_stream *stream) {
    return !stream->is_broken && stream->head_len == 0;
}
