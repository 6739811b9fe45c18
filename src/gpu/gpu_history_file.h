#pragma once
/* The file in which one card's history lies: a checked header and three rings of slots, allocated in full when it is made, so that
 * it never grows and a disk that fills up later takes nothing from it.
 *
 * Each slot holds the number of the span of wall-clock time that it is for, and a checksum. A slot that is not for the time asked
 * (never written, of an older round, of a clock that was wrong) or is damaged is no value: gaps stay gaps. A slot is written
 * with one call and lies within one sector, so neither kill -9 nor a power cut leaves half of it. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/gpu.h"

enum history_ring { HISTORY_SECONDS, HISTORY_MINUTES, HISTORY_QUARTERS, HISTORY_RING_COUNT_ };
enum { HISTORY_MAX_SLOTS = 2880 }; /* of the largest ring */

struct history_ring_info {
    const char *span; /* "10m", as users name it */
    int64_t step_ms;
    int n_slots;
};
extern const struct history_ring_info history_rings[HISTORY_RING_COUNT_];

/* What is kept of a card; the figures' units are finer than a slot keeps them. */
enum history_value { HISTORY_UTIL, HISTORY_MEM, HISTORY_TEMP, HISTORY_POWER, HISTORY_VALUE_COUNT_ };

/* A slot's content. Only what was seen is valid. */
struct history_point {
    int64_t number; /* wall clock / step: the span of time it is for */
    int n_samples;
    unsigned valid; /* bit of each history_value */
    double mean[HISTORY_VALUE_COUNT_];
    double max[HISTORY_VALUE_COUNT_];
};

/* Opens the card's file or makes it. One that cannot be used is set aside as PATH.unreadable, with a line in the log, and begun anew.
 * The descriptor, or -1 with KR_ERROR_STORAGE or KR_ERROR_IO. */
int history_file_open(const char *path, const char *uuid, GError **error);

/* The point for this span of time. false: there is none. */
bool history_file_read(int fd, enum history_ring ring, int64_t number, struct history_point *ret_point);
bool history_file_write(int fd, enum history_ring ring, const struct history_point *point, GError **error);
/* Those for `n_slots` spans of time, the last for `last`. A point without samples: there is none. Caller frees. */
struct history_point *history_file_read_all(int fd, enum history_ring ring, int64_t last);
