#pragma once
/* Shared by gpu_monitor.c (sampling, the snapshot), gpu_questions.c (checks and what people ask) and gpu_away.c (letting go). */

#include "gpu/gpu_index.h"
#include "gpu/gpu_link.h"
#include "gpu/gpu_monitor.h"
#include "gpu/gpu_report.h"

/* What is known of a card beside its figures. */
struct holders {
    char *text;          /* owned; who was on it by the newest list that counts; NULL: nobody */
    int64_t lease_began; /* monotonic; when set_leased last changed: lists asked for earlier do not count */
    bool is_leased;
    bool is_listed;    /* a list that counts has come, and was complete */
    int rest_samples;  /* in a row that found it unused */
    int bad_xids;      /* that came, worse than an application's own… */
    int bad_code;      /* …the newest of them… */
    int rest_bad_xids; /* …how many there were when rest_samples began… */
    int look_bad_xids; /* …and at the last check */
    int64_t looked_ms; /* monotonic: the last check; 0: none */
};

struct gpu_monitor {
    uv_loop_t *loop;
    struct gpu_link *link;
    struct gpu_index *index;
    struct gpu_snapshot snapshot;
    GHashTable *holders; /* UUID -> struct holders */
    GHashTable *sites;   /* UUID -> struct gpu_site, as last seen */
    uv_timer_t *timer;   /* the next sample */
    int64_t interval_ms, slow_interval_ms, process_interval_ms, health_interval_ms, deadline_ms;
    char **away;                    /* PCI addresses, NULL-terminated */
    uv_timer_t *let_go;             /* runs while no worker may be started: what was seen last is too old then */
    struct gpu_link_call *sampling; /* the sample on its way, or NULL */
    int64_t asked_ms;               /* when it was asked */
    bool asked_processes;
    json_t *was_left_out; /* suspects that this sample does not touch */
    bool wants_processes; /* a lease ended: the next sample looks */
    bool wants_rest;      /* some card is unused and not proved to be at rest yet: the next sample is soon */
    bool wants_sites;     /* cards came or went: the next sample asks where they sit */
    guint cards_picture;  /* a hash of which cards there are */
    int64_t processes_ms; /* when a list last came; 0: never */
    GHashTable *suspects; /* PCI address -> struct suspect */
    int failures;         /* samples without an answer, in a row */
    bool blames_card;     /* the failure since the last sample was asked is a suspect's */
    GHashTable *checks;   /* set of struct gpu_check_call */
    GHashTable *queries;  /* set of struct gpu_query */
    bool save_failed;
    void (*on_update)(void *user);
    void *user;
};

/* gpu_monitor.c */
struct holders *monitor_holders(struct gpu_monitor *monitor, const char *uuid);
/* PCI addresses of suspects that are not to be touched now. New. */
json_t *monitor_left_out(const struct gpu_monitor *monitor);
/* NULL when the memory is back at rest. A card without a figure (its kind has none) is judged by its processes alone. Caller
 * frees. */
char *monitor_memory_why(const struct gpu_monitor *monitor, const struct gpu *gpu);
/* Remembers the XIDs that a gpu of a report brings, and gives it all that are remembered. */
void monitor_note_xids(struct gpu_monitor *monitor, struct gpu *gpu);
/* Remembers until when a report has read the kernel's log. */
void monitor_note_log(struct gpu_monitor *monitor, const struct gpu_report *report);

/* There is no answer: all cards that are known from anywhere are unknown now (R3). */
void monitor_turn_unknown(struct gpu_monitor *monitor, const char *why);

/* gpu_questions.c */
void monitor_drop_questions(struct gpu_monitor *monitor);
