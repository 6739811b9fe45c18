#include "host/event_hub.h"

#include <sodium.h>
#include <string.h>

#include "base/error.h"
#include "host/event_ring.h"
#include "host/event_view.h"
#include "host/host_internal.h"

enum {
    TURN_MS = 100,
    FIGURES_MS = 2000,
    BEAT_MS = 10000,
    KEEP_MS = 60000, /* after the last reader */
    MAX_READERS = 1024,
    MAX_SNAPSHOTS = 8,
    MIN_REPLAY_BYTES = 64 * 1024,
    RUN_BYTES = 6,
};

/* All that was told up to event `number`. Readers share it. */
struct snapshot {
    struct event_hub *hub;
    int refs;
    uint64_t number;
    GBytes *bytes;
};

struct reader {
    struct event_hub *hub;
    struct http_stream *stream;
    uint64_t next;             /* the event that it wants next; 0: a snapshot */
    GBytes *current;           /* what it gets now; NULL: nothing */
    size_t offset;             /* of current */
    struct snapshot *snapshot; /* that current is of, or NULL */
};

struct event_hub {
    struct host *host;
    struct event_view *view;
    struct event_ring ring;
    char run[RUN_BYTES * 2 + 1];
    uv_timer_t timer;
    GPtrArray *readers;        /* of struct reader, owned */
    struct snapshot *snapshot; /* the newest, or NULL */
    size_t bytes_since;        /* of events after it */
    int n_snapshots;           /* that are in memory */
    int64_t figures_ms, said_ms, left_ms;
};

/* ---- encoding ---- */

static int add_text(const char *text, size_t len, void *user) {
    g_string_append_len(user, text, (gssize)len);
    return 0;
}

/* Takes the JSON. `number` 0: an event without id. */
static GBytes *encode(const struct event_hub *hub, const char *kind, uint64_t number, json_t *json) {
    GString *text = g_string_sized_new(1024);

    if (number)
        g_string_append_printf(text, "id: %s.%" G_GUINT64_FORMAT "\n", hub->run, number);
    g_string_append_printf(text, "event: %s\ndata: ", kind);
    json_object_set_new(json, "now_ms", json_integer(host_now().wall_ms));
    json_dump_callback(json, add_text, text, JSON_COMPACT);
    json_decref(json);
    g_string_append(text, "\n\n");
    return g_string_free_to_bytes(text);
}

/* ---- snapshots ---- */

static void snapshot_unref(struct snapshot *snapshot) {
    if (!snapshot || --snapshot->refs > 0)
        return;
    snapshot->hub->n_snapshots--;
    g_bytes_unref(snapshot->bytes);
    g_free(snapshot);
}

static struct snapshot *snapshot_new(struct event_hub *hub) {
    struct snapshot *snapshot = g_new0(struct snapshot, 1);
    json_t *whole = event_view_whole(hub->view);

    json_object_set_new(whole, "version", json_string(KR_VERSION));
    json_object_set_new(whole, "cluster_id", json_string(hub->host->cluster_id));
    *snapshot = (struct snapshot){.hub = hub, .refs = 1, .number = hub->ring.last};
    snapshot->bytes = encode(hub, "snapshot", snapshot->number, whole);
    hub->n_snapshots++;
    return snapshot;
}

/* An older one with the events after it says the same as a new one, and is cheaper while those are few. */
static bool is_of_use(const struct event_hub *hub, const struct snapshot *snapshot) {
    size_t limit = MAX((size_t)MIN_REPLAY_BYTES, g_bytes_get_size(snapshot->bytes) / 2);

    return snapshot->number + 1 >= hub->ring.first && hub->bytes_since <= limit;
}

/* Readers that have not taken the oldest snapshot yet are in the way of all others: they are cut, and may come again. */
static void make_room(struct event_hub *hub) {
    const struct snapshot *oldest = NULL;

    for (guint i = 0; i < hub->readers->len; i++) {
        const struct reader *reader = hub->readers->pdata[i];
        if (reader->snapshot && (!oldest || reader->snapshot->number < oldest->number))
            oldest = reader->snapshot;
    }
    for (guint i = hub->readers->len; oldest && i-- > 0;) {
        struct reader *reader = hub->readers->pdata[i];
        if (reader->snapshot != oldest)
            continue;
        http_stream_end(reader->stream, false);
        g_ptr_array_remove_index_fast(hub->readers, i); /* the last one takes the snapshot with it */
    }
}

static void turn(struct event_hub *hub, bool with_figures);

/* Borrowed; NULL: it cannot be made yet, ask again after the next turn. */
static struct snapshot *current_snapshot(struct event_hub *hub) {
    if (!event_view_is_ready(hub->view))
        return NULL;
    if (hub->snapshot && is_of_use(hub, hub->snapshot))
        return hub->snapshot;
    g_clear_pointer(&hub->snapshot, snapshot_unref);
    if (hub->n_snapshots >= MAX_SNAPSHOTS)
        make_room(hub);
    turn(hub, false);
    hub->snapshot = snapshot_new(hub);
    hub->bytes_since = 0;
    return hub->snapshot;
}

/* ---- readers ---- */

static GBytes *hello_bytes(void) { return g_bytes_new_static("retry: 1000\n\n", strlen("retry: 1000\n\n")); }

/* What comes next for it; false: nothing now. */
static bool fetch(struct reader *reader) {
    struct event_hub *hub = reader->hub;
    struct snapshot *snapshot;

    if (reader->next >= hub->ring.first) {
        reader->current = event_ring_get(&hub->ring, reader->next);
        if (reader->current)
            reader->next++;
        return reader->current != NULL;
    }
    snapshot = current_snapshot(hub);
    if (!snapshot)
        return false;
    snapshot->refs++;
    reader->snapshot = snapshot;
    reader->current = g_bytes_ref(snapshot->bytes);
    reader->next = snapshot->number + 1;
    return true;
}

static void drop_current(struct reader *reader) {
    g_clear_pointer(&reader->current, g_bytes_unref);
    g_clear_pointer(&reader->snapshot, snapshot_unref);
    reader->offset = 0;
}

static size_t on_read(void *user, char *buf, size_t max) {
    struct reader *reader = user;
    size_t done = 0;

    while (done < max && (reader->current || fetch(reader))) {
        size_t len, n;
        const char *bytes = g_bytes_get_data(reader->current, &len);

        n = MIN(max - done, len - reader->offset);
        memcpy(buf + done, bytes + reader->offset, n);
        done += n;
        reader->offset += n;
        if (reader->offset == len)
            drop_current(reader);
    }
    return done;
}

static void on_gone(void *user) {
    struct reader *reader = user;
    struct event_hub *hub = reader->hub;

    g_ptr_array_remove_fast(hub->readers, reader);
    hub->left_ms = host_now().mono_ms;
}

static void reader_free(void *user) {
    struct reader *reader = user;

    drop_current(reader);
    g_free(reader);
}

static void wake_readers(const struct event_hub *hub) {
    for (guint i = 0; i < hub->readers->len; i++)
        http_stream_wake(((struct reader *)hub->readers->pdata[i])->stream);
}

/* ---- turns ---- */

/* Takes the event. */
static void add_event(struct event_hub *hub, GBytes *event) {
    hub->bytes_since += g_bytes_get_size(event);
    event_ring_add(&hub->ring, event);
    hub->said_ms = host_now().mono_ms;
    wake_readers(hub);
    if (hub->snapshot && !is_of_use(hub, hub->snapshot))
        g_clear_pointer(&hub->snapshot, snapshot_unref);
}

static void turn(struct event_hub *hub, bool with_figures) {
    json_t *news = event_view_turn(hub->view, with_figures);

    if (news)
        add_event(hub, encode(hub, "changes", hub->ring.last + 1, news));
}

static void go_to_sleep(struct event_hub *hub) {
    uv_timer_stop(&hub->timer);
    event_view_stop(hub->view);
    event_ring_clear(&hub->ring);
    g_clear_pointer(&hub->snapshot, snapshot_unref);
}

static void on_turn(uv_timer_t *timer) {
    struct event_hub *hub = timer->data;
    int64_t now_ms = host_now().mono_ms;
    bool with_figures = now_ms - hub->figures_ms >= FIGURES_MS;

    if (hub->readers->len == 0 && now_ms - hub->left_ms >= KEEP_MS) {
        go_to_sleep(hub);
        return;
    }
    if (with_figures)
        hub->figures_ms = now_ms;
    turn(hub, with_figures);
    if (now_ms - hub->said_ms >= BEAT_MS)
        add_event(hub, encode(hub, "beat", 0, json_object()));
    for (guint i = 0; i < hub->readers->len; i++) { /* those that could not be given a snapshot */
        struct reader *reader = hub->readers->pdata[i];
        if (!reader->current && reader->next < hub->ring.first)
            http_stream_wake(reader->stream);
    }
}

static void wake_up(struct event_hub *hub) {
    if (event_view_is_started(hub->view))
        return;
    event_ring_cut(&hub->ring);
    event_view_start(hub->view);
    hub->said_ms = hub->figures_ms = host_now().mono_ms;
    uv_timer_start(&hub->timer, on_turn, TURN_MS, TURN_MS);
}

/* ---- life ---- */

struct event_hub *event_hub_new(struct host *host) {
    struct event_hub *hub = g_new0(struct event_hub, 1);
    unsigned char random[RUN_BYTES];

    hub->host = host;
    hub->view = event_view_new(host);
    hub->readers = g_ptr_array_new_with_free_func(reader_free);
    event_ring_init(&hub->ring);
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(hub->run, sizeof hub->run, random, sizeof random);
    uv_timer_init(&host->loop, &hub->timer);
    hub->timer.data = hub;
    return hub;
}

static void on_timer_closed(uv_handle_t *handle) { g_free(handle->data); }

void event_hub_free(struct event_hub *hub) {
    if (!hub)
        return;
    g_ptr_array_unref(hub->readers);
    go_to_sleep(hub);
    event_view_free(hub->view);
    uv_close((uv_handle_t *)&hub->timer, on_timer_closed);
}

void event_hub_node(struct event_hub *hub, const char *node) {
    if (hub)
        event_view_mark_node(hub->view, node);
}

void event_hub_figures(struct event_hub *hub, const char *node) {
    if (hub)
        event_view_mark_figures(hub->view, node);
}

void event_hub_task(struct event_hub *hub, const struct task *task) {
    if (hub)
        event_view_mark_task(hub->view, task);
}

void event_hub_vps(struct event_hub *hub, uint32_t vps_id) {
    if (hub)
        event_view_mark_vps(hub->view, vps_id);
}

/* ---- the call ---- */

/* The event after the one that the reader has seen, 0 when it has to begin anew. */
static uint64_t next_after(const struct event_hub *hub, const char *last_id) {
    size_t len = strlen(hub->run);
    guint64 number;

    if (!last_id || strncmp(last_id, hub->run, len) != 0 || last_id[len] != '.' ||
        !g_ascii_string_to_unsigned(last_id + len + 1, 10, 1, G_MAXINT64, &number, NULL) ||
        number + 1 < hub->ring.first || number > hub->ring.last)
        return 0;
    return number + 1;
}

void api_events(struct http_exchange *x, void *app) {
    struct host *host = app;
    struct event_hub *hub = host->events;
    const char *last_id = http_header(x,
                                      "Last-Event-ID"); /* newer than the query of a client that came back by itself */
    g_autoptr(GError) error = NULL;
    struct reader *reader;

    if (hub->readers->len >= MAX_READERS) {
        kr_fail(&error, UNAVAILABLE, "%d live streams are open already, this host serves no more", MAX_READERS);
        http_reply_error(x, error, NULL);
        return;
    }
    wake_up(hub);
    reader = g_new0(struct reader, 1);
    reader->hub = hub;
    reader->next = next_after(hub, last_id ? last_id : http_query(x, "last_event_id"));
    reader->current = hello_bytes();
    g_ptr_array_add(hub->readers, reader);
    reader->stream = http_reply_source(x, "text/event-stream", on_read, on_gone, reader);
}
