#pragma once
/* One machine's life on this node, within the engine. Each step is recorded before it is taken:
 *
 *   created --start--> starting: bind cards, spawn, greet, look --> running --> ended
 *      ^                  |                                            |          |
 *      +--- it fails -----+ (what runs is ended)                       +--remove--+--> gone
 *
 * settling: a start was cut off by our own death; what there is of it is ended, then the machine is as created.
 * Whoever waits looks at the fields again when on_change comes. */

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "vm/engine_qemu.h"
#include "vm/guest_agent.h"
#include "vm/image_store.h"
#include "vm/machine_record.h"
#include "vm/nat_bridge.h"
#include "vm/process_tag.h"
#include "vm/qmp_client.h"

/* What all machines of an engine share. */
struct machine_context {
    uv_loop_t *loop;
    const struct qemu_config *config;
    const struct image_store *store;
    const struct nat_net *nat;        /* NULL: machines' bridge, where there is one, is not ours */
    const char *machine_type, *accel; /* known once the engine has looked at QEMU */
    void (*on_change)(void *user);    /* look again; soon, not now */
    void *user;
};

struct machine {
    const struct machine_context *context;
    struct machine_record *record;
    char *folder;
    int run_fd; /* of the folder with the sockets, -1: not open */
    struct process_tag qemu;
    struct qmp_client *qmp;
    struct vm_devices_call *devices;
    struct nat_bridge_call *network;
    struct agent_link *agent;
    uv_timer_t tick;
    uv_poll_t poll;
    uv_pipe_t words; /* the supervisor's standard output */
    int pidfd;       /* -1: not watched */
    bool is_polling, has_words;
    int open_handles;
    char words_text[16];
    size_t words_len;
    char *shutdown_reason;            /* of the monitor's last SHUTDOWN event */
    int64_t kill_at_ms, settle_by_ms; /* monotonic; 0: not set */
    int n_ports_lost;                 /* in this start: chosen by us, taken by somebody else before QEMU came */
    bool is_starting, is_settling, is_removing, is_gone, is_freed;
    bool is_qemu_gone; /* its end is to be established */
    bool is_paused;
    GError *start_error;  /* of the last start that failed */
    GError *remove_error; /* of the last removal that failed */
    GError *pause_error;
};

/* A new one: takes over the record and writes it. NULL with an error; the record is freed. */
struct machine *machine_new(const struct machine_context *context, struct machine_record *record, GError **error);
/* One that is there: looks at what has become of it. NULL when its record cannot be read. */
struct machine *machine_adopt(const struct machine_context *context, const char *name, GError **error);
/* Lets go; what runs runs on. The loop must run once more. */
void machine_free(struct machine *machine);

/* is_starting until it is RUNNING or start_error is set. */
void machine_start(struct machine *machine);
/* is_removing until is_gone or remove_error is set. */
void machine_remove(struct machine *machine);
void machine_press_power(struct machine *machine);
void machine_kill(struct machine *machine);
/* is_paused follows, or pause_error. */
void machine_pause(struct machine *machine, bool is_pause);
bool machine_is_running(const struct machine *machine);
/* Of files below `folder/machines`. Caller frees. */
char *machine_folder(const struct machine_context *context, const char *name);
