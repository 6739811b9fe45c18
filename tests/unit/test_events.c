/* The live stream's inside: the ring, the figures, and that what is told adds up to what is. */

#include <glib/gstdio.h>
#include <stdlib.h>

#include "core_fixture.h"
#include "host/event_figures.h"
#include "host/event_ring.h"
#include "host/event_view.h"
#include "host/host_internal.h"
#include "model/merge_patch.h"

/* ---- the ring ---- */

static GBytes *bytes_of(size_t len, char fill) {
    char *data = g_malloc(len);

    memset(data, fill, len);
    return g_bytes_new_take(data, len);
}

static char first_byte(GBytes *bytes) {
    char c = bytes ? ((const char *)g_bytes_get_data(bytes, NULL))[0] : '\0';

    if (bytes)
        g_bytes_unref(bytes);
    return c;
}

static void test_ring(void) {
    struct event_ring *ring = g_new0(struct event_ring, 1);

    event_ring_init(ring);
    g_assert_null(event_ring_get(ring, 1));
    g_assert_cmpuint(event_ring_add(ring, bytes_of(10, 'a')), ==, 1);
    g_assert_cmpuint(event_ring_add(ring, bytes_of(10, 'b')), ==, 2);
    g_assert_cmpint(first_byte(event_ring_get(ring, 2)), ==, 'b');
    g_assert_null(event_ring_get(ring, 3));
    for (int i = 0; i < 100; i++) /* the bytes bound it */
        event_ring_add(ring, bytes_of(EVENT_RING_BYTES / 10, 'c'));
    g_assert_cmpuint(ring->last, ==, 102);
    g_assert_cmpuint(ring->first, ==, 93);
    g_assert_cmpuint(ring->bytes, <=, EVENT_RING_BYTES);
    g_assert_null(event_ring_get(ring, 92));
    event_ring_add(ring, bytes_of(2 * EVENT_RING_BYTES, 'd')); /* one that is too large stands alone */
    g_assert_cmpuint(ring->first, ==, 103);
    for (int i = 0; i < 2 * EVENT_RING_EVENTS; i++) /* the number bounds it */
        event_ring_add(ring, bytes_of(1, (char)('0' + i % 10)));
    g_assert_cmpuint(ring->last - ring->first + 1, ==, EVENT_RING_EVENTS);
    g_assert_cmpuint(ring->bytes, ==, EVENT_RING_EVENTS);
    g_assert_cmpint(first_byte(event_ring_get(ring, ring->first)), ==, '0' + (int)((ring->first - 104) % 10));
    event_ring_cut(ring);
    g_assert_cmpuint(ring->bytes, ==, 0);
    g_assert_cmpuint(ring->first, ==, ring->last + 1);
    g_assert_cmpuint(ring->last, ==, 103 + 2 * EVENT_RING_EVENTS + 1); /* nobody has seen this one */
    event_ring_clear(ring);
    g_free(ring);
}

/* ---- figures ---- */

static void expect_only(const char *delta, bool wanted) {
    json_t *json = json_loads(delta, 0, NULL);

    g_assert_nonnull(json);
    if (event_figures_only(json) != wanted)
        g_error("%s", delta);
    json_decref(json);
}

static void test_figures(void) {
    json_t *row = json_pack("{s:I,s:i,s:i,s:s}", "memory_used_bytes", (json_int_t)(40LL << 30) + 1000000, "power_mw",
                            123499, "utilization_percent", 7, "state", "free");
    json_t *told = json_pack("{s:i,s:i,s:s}", "power_mw", 5000, "fan_percent", 30, "state", "in_use");
    json_t *held = json_pack("{s:i,s:i,s:s}", "power_mw", 5000, "fan_percent", 30, "state", "free");

    event_figures_round(row);
    g_assert_cmpint(json_integer_value(json_object_get(row, "memory_used_bytes")), ==, 40LL << 30);
    g_assert_cmpint(json_integer_value(json_object_get(row, "power_mw")), ==, 123000);
    event_figures_hold(row, told);
    g_assert_true(json_equal(row, held));
    json_decref(row);
    json_decref(told);
    json_decref(held);
    expect_only("{}", true);
    expect_only("{\"memory_used_bytes\":1,\"gpus\":{\"0\":{\"power_mw\":1,\"idle_since_ms\":null}}}", true);
    expect_only("{\"gpus\":{\"0\":{\"power_mw\":1},\"1\":{\"condition\":\"fault\"}}}", false);
    expect_only("{\"gpus\":[{\"power_mw\":1}]}", false); /* another number of cards */
    expect_only("{\"gpus\":{\"0\":{\"xids\":[]}}}", false);
    expect_only("{\"engine_ok\":false}", false);
}

/* ---- what is told adds up ---- */

static struct event_view *watching; /* whom the controller's words go to */

static void on_node(void *env, const char *node) {
    (void)env;
    if (watching)
        event_view_mark_node(watching, node);
}

static void on_vps_changed(void *env, uint32_t id) {
    (void)env;
    if (watching)
        event_view_mark_vps(watching, id);
}

static void on_task(void *env, const struct task *task, bool is_gone) {
    (void)env;
    (void)is_gone;
    if (watching)
        event_view_mark_task(watching, task);
}

static const struct controller_ops told_ops = {op_record, op_send, on_task, on_node, on_vps_changed};

struct room {
    struct host host;
    struct bed bed;
    struct event_view *view;
    json_t *page; /* what a reader knows: list -> key -> row */
    char *dir;
    int n_nodes;
};

static void room_init(struct room *room) {
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;

    *room = (struct room){0};
    room->bed.c = controller_new(&told_ops, &room->bed, &(struct controller_settings){.offline_after_ms = 30000});
    room->bed.sent = g_ptr_array_new_with_free_func((GDestroyNotify)json_decref);
    room->host.controller = room->bed.c;
    uv_loop_init(&room->host.loop);
    room->dir = g_dir_make_tmp("kr-events-XXXXXX", NULL);
    path = g_build_filename(room->dir, "test.db", NULL);
    room->host.store = store_open(&room->host.loop, path, &error);
    g_assert_no_error(error);
    room->view = watching = event_view_new(&room->host);
}

static void room_clear(struct room *room) {
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    store_close(room->host.store);
    uv_run(&room->host.loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&room->host.loop), ==, 0);
    event_view_free(room->view);
    watching = NULL;
    controller_check(room->bed.c);
    controller_free(room->bed.c);
    g_queue_clear_full(&room->bed.records, (GDestroyNotify)record_free);
    g_ptr_array_unref(room->bed.sent);
    if (room->bed.refusals)
        g_ptr_array_unref(room->bed.refusals);
    g_free(room->bed.error);
    json_decref(room->page);
    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = g_strconcat(room->dir, "/test.db", suffixes[i], NULL);
        g_remove(path);
    }
    g_rmdir(room->dir);
    g_free(room->dir);
}

static char *key_of(const char *list, const json_t *row) {
    if (strcmp(list, "nodes") == 0)
        return g_strdup(json_string_value(json_object_get(row, "name")));
    if (strcmp(list, "gpus") == 0)
        return g_strdup_printf("%s::%lld", json_string_value(json_object_get(row, "node")),
                               (long long)json_integer_value(json_object_get(row, "index")));
    return g_strdup_printf("%lld",
                           (long long)json_integer_value(json_is_integer(row) ? row : json_object_get(row, "id")));
}

static const char *const lists[] = {"nodes", "gpus", "vps"};

/* As a page would: rows by their keys. */
static json_t *page_of(const json_t *whole) {
    json_t *page = json_object();

    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        json_t *rows = json_object(), *row;
        size_t k;

        json_array_foreach (json_object_get(whole, lists[i]), k, row) {
            g_autofree char *key = key_of(lists[i], row);
            g_assert_null(json_object_get(rows, key));
            json_object_set_new(rows, key, json_deep_copy(row));
        }
        json_object_set_new(page, lists[i], rows);
    }
    json_object_set_new(page, "task_counts", json_deep_copy(json_object_get(whole, "task_counts")));
    return page;
}

static void apply(json_t *page, const json_t *news) {
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        json_t *rows = json_object_get(page, lists[i]), *row;
        g_autofree char *gone = g_strconcat(lists[i], "_gone", NULL);
        size_t k;

        json_array_foreach (json_object_get(news, lists[i]), k, row) {
            g_autofree char *key = key_of(lists[i], row);
            if (!json_object_get(rows, key))
                json_object_set_new(rows, key, json_object());
            merge_patch_apply(json_object_get(rows, key), row);
        }
        json_array_foreach (json_object_get(news, gone), k, row) {
            g_autofree char *key = key_of(lists[i], row);
            json_object_del(rows, key);
        }
    }
    if (json_object_get(news, "task_counts"))
        json_object_set(page, "task_counts", json_object_get(news, "task_counts"));
}

static void turn(struct room *room, bool with_figures) {
    json_t *news = event_view_turn(room->view, with_figures);

    if (news)
        apply(room->page, news);
    json_decref(news);
}

/* Of a node that is online it is not told by itself. */
static void drop_last_seen(json_t *page) {
    const char *key;
    json_t *row;

    json_object_foreach (json_object_get(page, "nodes"), key, row)
        if (json_is_true(json_object_get(row, "online")))
            json_object_del(row, "last_seen_ms");
}

static void expect_same(const json_t *page, const json_t *other, const char *what) {
    json_t *patch = merge_patch_make(page, other);

    if (patch)
        g_error("%s: %s", what, json_dumps(patch, JSON_INDENT(1)));
}

static json_t *whole_page(const struct event_view *view) {
    json_t *whole = event_view_whole(view), *page = page_of(whole);

    json_decref(whole);
    return page;
}

static void on_asked(void *user, const GPtrArray *tasks, const GError *error) {
    (void)tasks;
    g_assert_no_error(error);
    *(bool *)user = true;
}

/* What the store was asked about machines that are off is answered, and told. */
static void settle(struct room *room) {
    for (int i = 0; i < 2; i++) { /* what was marked while a question was open is asked after it */
        struct task_query query = {.id = 1, .limit = 1};
        bool is_answered = false;

        turn(room, true);
        store_query_tasks(room->host.store, &query, on_asked, &is_answered);
        while (!is_answered)
            uv_run(&room->host.loop, UV_RUN_ONCE);
    }
    turn(room, true);
}

static void check(struct room *room) {
    struct event_view *fresh = event_view_new(&room->host);
    json_t *told, *is, *page;

    settle(room);
    event_view_start(fresh);
    while (!event_view_is_ready(fresh))
        uv_run(&room->host.loop, UV_RUN_ONCE);
    turn(room, true); /* looking at the cards may have been news */
    told = whole_page(room->view);
    expect_same(room->page, told, "what a reader has put together, against a snapshot");
    is = whole_page(fresh);
    page = json_deep_copy(room->page);
    drop_last_seen(page);
    drop_last_seen(is);
    expect_same(page, is, "what a reader has put together, against what is");
    json_decref(page);
    json_decref(is);
    json_decref(told);
    event_view_free(fresh);
}

static struct node_info *copy_info(const struct node_info *info) {
    json_t *json = node_info_to_json(info);
    struct node_info *copy = node_info_from_json(json, NULL);

    json_decref(json);
    return copy;
}

static struct cluster_node *any_node(struct room *room) {
    g_autofree char *name = g_strdup_printf("n%d", g_test_rand_int_range(0, room->n_nodes));

    return cluster_find(controller_cluster(room->bed.c), name);
}

static void set_condition(struct gpu *gpu, enum gpu_condition condition) {
    gpu->condition = condition;
    g_free(gpu->reason);
    gpu->reason = condition == GPU_CONDITION_OK ? NULL : g_strdup_printf("condition %d", condition);
}

static void add_guest(struct node_info *info, uint32_t task_id, const char *address) {
    struct guest *guest = g_new0(struct guest, 1);

    guest->task_id = task_id;
    guest->has_state = true;
    g_strlcpy(guest->state.address, address, sizeof guest->state.address);
    g_ptr_array_add(info->guests, guest);
}

/* Those whose guests the node tells of are others each time. */
static void change_guests(struct room *room, struct node_info *info) {
    g_autoptr(GPtrArray) all = controller_all_vps(room->bed.c);

    g_ptr_array_set_size(info->guests, 0);
    for (guint i = 0; i < all->len; i++) {
        const struct vps *vps = all->pdata[i];
        const struct task *task = controller_task(room->bed.c, vps->task_id);

        if (task && strcmp(task->lease.node, info->name) == 0 && g_test_rand_int_range(0, 2))
            add_guest(info, task->id, "10.0.0.1");
    }
}

static void beat(struct room *room, const struct cluster_node *node, bool figures) {
    struct node_info *info = copy_info(node->info);
    struct gpu *gpu = info->gpus->pdata[g_test_rand_int_range(0, (int)info->gpus->len)];
    g_autofree char *name = g_strdup(info->name);

    if (figures) {
        gpu_set(gpu, GPU_UTIL, g_test_rand_int_range(0, 101));
        gpu_set(gpu, GPU_MEM_USED, (int64_t)g_test_rand_int_range(0, 80000) << 20);
        info->mem_used_bytes = (int64_t)g_test_rand_int_range(0, 80000) << 20;
    } else if (g_test_rand_int_range(0, 3)) {
        set_condition(gpu, (enum gpu_condition)g_test_rand_int_range(GPU_CONDITION_OK, GPU_CONDITION_COUNT_));
    } else if (info->gpus->len > 1) {
        g_ptr_array_remove(info->gpus, gpu);
    }
    if (!figures)
        change_guests(room, info);
    controller_heartbeat(room->bed.c, info, room->bed.now);
    if (figures)
        event_view_mark_figures(room->view, name);
    else
        event_view_mark_node(room->view, name);
}

static const struct task *any_task(struct room *room, bool unended) {
    for (int i = 0; i < 20; i++) {
        const struct task *task = controller_task(room->bed.c, (uint32_t)g_test_rand_int_range(1, 400));
        if (task && (!unended || !task_state_is_terminal(task->state)))
            return task;
    }
    return NULL;
}

static void on_wished(void *user, const struct task *task, const GError *error) {
    (void)user;
    (void)task;
    (void)error;
}

static void on_made(void *user, const struct vps *vps, const GError *error) {
    (void)user;
    (void)vps;
    (void)error;
}

static void make_machine(struct room *room, const char *target) {
    static int n;
    g_autofree char *name = g_strdup_printf("vm%d", n++);
    char *none[] = {NULL};
    struct vm_spec vm = {.hostname = name,
                         .image = (char *)"debian",
                         .disk_bytes = VM_MIN_DISK_BYTES,
                         .user = (char *)"ops",
                         .ssh_keys = none,
                         .network = (char *)"user"};
    struct task_spec spec = {.name = name, .argv = none, .cores = 1, .mem_bytes = 1LL << 30, .vm = &vm};
    struct vps *vps = g_new0(struct vps, 1);

    vps->name = g_steal_pointer(&name);
    vps->target = g_strdup(target);
    spec.name = vm.hostname = vps->name;
    vps->spec = task_spec_copy(&spec);
    controller_vps_create(room->bed.c, vps, room->bed.now, on_made, NULL, NULL);
    vps_free(vps);
}

static void delete_machine(struct room *room) {
    g_autoptr(GPtrArray) all = controller_all_vps(room->bed.c);

    if (all->len)
        controller_vps_delete(room->bed.c, ((const struct vps *)all->pdata[0])->id, on_made, NULL, NULL);
}

static void order(struct room *room, const struct cluster_node *node) {
    const struct order who = {"test", "because"};
    enum mark_action action = (enum mark_action)g_test_rand_int_range(MARK_CORDON, MARK_UNCORDON + 1);

    if (g_test_rand_int_range(0, 2))
        controller_mark_node(room->bed.c, node->info->name, action, &who, room->bed.now, on_wished, NULL, NULL);
    else
        controller_mark_gpu(room->bed.c, node->info->name, ((struct gpu *)node->info->gpus->pdata[0])->index, action,
                            &who, room->bed.now, on_wished, NULL, NULL);
}

/* Silence is time that passes, which is not ours to make: the node was heard long ago. */
static void fall_silent(struct room *room, struct cluster_node *node) {
    node->heard_mono_ms = 1;
    controller_disconnected(room->bed.c, node->info->name, room->bed.now);
    controller_tick(room->bed.c, room->bed.now);
}

static void say_hello(struct room *room, const char *name) {
    struct node_info *info = make_node(name, 1 + g_test_rand_int_range(0, 4));
    g_autoptr(GPtrArray) none = g_ptr_array_new();

    info->vm_ok = info->disk_ok = true;
    if (!controller_hello(room->bed.c, info, none, 0, room->bed.now, NULL))
        node_info_free(info);
}

static void step(struct room *room) {
    struct cluster_node *node = any_node(room);
    g_autofree char *name = g_strdup(node->info->name), *target = NULL;
    const struct task *task;

    room->bed.now = host_now();
    switch (g_test_rand_int_range(0, 14)) {
    case 0:
    case 1:
    case 2: beat(room, node, true); break;
    case 3: beat(room, node, false); break;
    case 4:
    case 5:
        target = g_strdup_printf("%s::%d", name, g_test_rand_int_range(0, 3));
        submit(&room->bed, g_test_rand_int_range(0, 3) ? target : "", 1);
        break;
    case 6:
    case 7:
        if ((task = any_task(room, true)))
            report(&room->bed, task->id, g_test_rand_int_range(0, 2) ? TASK_RUNNING : TASK_FAILED,
                   g_test_rand_int_range(0, 2));
        break;
    case 8:
        if ((task = any_task(room, false)))
            report(&room->bed, task->id, TASK_COMPLETED, true);
        break;
    case 9:
        if ((task = any_task(room, true)))
            controller_kill(room->bed.c, task->id, room->bed.now, on_wished, NULL, NULL);
        break;
    case 10: order(room, node); break;
    case 11:
        if (g_test_rand_int_range(0, 4))
            say_hello(room, name);
        else
            fall_silent(room, node);
        break;
    case 12:
        target = g_strdup_printf("%s%s", name, g_test_rand_int_range(0, 3) ? "::0" : "");
        if (g_test_rand_int_range(0, 2))
            make_machine(room, target);
        else
            delete_machine(room);
        break;
    default: controller_heartbeat_same(room->bed.c, name, room->bed.now); break;
    }
    if (g_test_rand_int_range(0, 5))
        commit(&room->bed, g_test_rand_int_range(0, 8) ? NULL : "no space left");
    if (g_test_rand_int_range(0, 6) == 0)
        controller_tick(room->bed.c, room->bed.now);
}

static void test_adds_up(void) {
    struct room room;

    room_init(&room);
    room.bed.now = host_now();
    for (room.n_nodes = 0; room.n_nodes < 4; room.n_nodes++) {
        g_autofree char *name = g_strdup_printf("n%d", room.n_nodes);
        say_hello(&room, name);
    }
    event_view_start(room.view);
    g_assert_true(event_view_is_ready(room.view));
    room.page = whole_page(room.view);
    for (int i = 0; i < 6000; i++) {
        step(&room);
        if (g_test_rand_int_range(0, 3) == 0)
            turn(&room, g_test_rand_int_range(0, 4) == 0);
        if (i % 20 == 19)
            check(&room);
    }
    room_clear(&room);
}

/* ---- single promises ---- */

static json_t *first_of(const json_t *news, const char *list) { return json_array_get(json_object_get(news, list), 0); }

static void test_figures_wait(void) {
    struct room room;
    struct cluster_node *node;
    json_t *news, *row;

    room_init(&room);
    room.bed.now = host_now();
    room.n_nodes = 1;
    say_hello(&room, "n0");
    node = any_node(&room);
    event_view_start(room.view);
    room.page = whole_page(room.view);
    gpu_set(node->info->gpus->pdata[0], GPU_UTIL, 50);
    event_view_mark_figures(room.view, "n0");
    g_assert_null(event_view_turn(room.view, false)); /* figures alone are in no hurry */
    submit(&room.bed, "n0::0", 1);
    commit(&room.bed, NULL);
    news = event_view_turn(room.view, false); /* who holds a card is, and takes no figures along */
    row = first_of(news, "gpus");
    g_assert_cmpstr(json_string_value(json_object_get(row, "state")), ==, "leased");
    g_assert_true(json_is_object(json_object_get(row, "holder")));
    g_assert_null(json_object_get(row, "utilization_percent"));
    g_assert_cmpstr(json_string_value(json_object_get(first_of(news, "tasks"), "command_text")), ==, "python train.py");
    g_assert_cmpint(json_integer_value(json_object_get(json_object_get(news, "task_counts"), "pending")), ==, 1);
    json_decref(news);
    news = event_view_turn(room.view, true);
    g_assert_cmpint(json_integer_value(json_object_get(first_of(news, "gpus"), "utilization_percent")), ==, 50);
    json_decref(news);
    g_assert_null(event_view_turn(room.view, true));
    node->heard_wall_ms += 5000; /* that it was heard from again is no news */
    event_view_mark_node(room.view, "n0");
    g_assert_null(event_view_turn(room.view, true));
    room_clear(&room);
}

/* What the node says of the only machine and its only card; what a reader then has of the machine. */
static const json_t *machine_after(struct room *room, enum gpu_condition condition, const char *address) {
    struct node_info *info = copy_info(any_node(room)->info);
    const struct vps *vps;
    g_autoptr(GPtrArray) all = controller_all_vps(room->bed.c);
    g_autofree char *id = NULL;

    g_assert_cmpuint(all->len, ==, 1);
    vps = all->pdata[0];
    id = g_strdup_printf("%u", vps->id);
    set_condition(info->gpus->pdata[0], condition);
    g_ptr_array_set_size(info->guests, 0);
    if (address)
        add_guest(info, vps->task_id, address);
    controller_heartbeat(room->bed.c, info, room->bed.now);
    event_view_mark_node(room->view, "n0");
    turn(room, false);
    return json_object_get(json_object_get(room->page, "vps"), id);
}

static void expect_machine(const json_t *row, const char *cards, const char *address) {
    g_assert_true(json_is_true(json_object_get(row, "holds_lease")));
    g_assert_cmpstr(json_string_value(json_object_get(row, "cards")), ==, cards);
    g_assert_cmpstr(json_string_value(json_object_get(json_object_get(row, "guest"), "address")), ==, address);
}

/* While a card is bound or given back there is no guest, and it may be gone from one word to the next. */
static void test_machine_follows_its_node(void) {
    g_autofree char *switching = g_strdup_printf("GPU 0: condition %d", GPU_CONDITION_SWITCHING),
                    *fault = g_strdup_printf("GPU 0: condition %d", GPU_CONDITION_FAULT);
    struct room room;

    room_init(&room);
    room.bed.now = host_now();
    room.n_nodes = 1;
    say_hello(&room, "n0");
    event_view_start(room.view);
    room.page = whole_page(room.view);
    make_machine(&room, "n0::0");
    commit(&room.bed, NULL);
    turn(&room, false);
    expect_machine(machine_after(&room, GPU_CONDITION_OK, NULL), NULL, NULL);
    expect_machine(machine_after(&room, GPU_CONDITION_SWITCHING, NULL), switching, NULL);
    expect_machine(machine_after(&room, GPU_CONDITION_OK, NULL), NULL, NULL);
    expect_machine(machine_after(&room, GPU_CONDITION_OK, "10.0.0.1"), NULL, "10.0.0.1");
    expect_machine(machine_after(&room, GPU_CONDITION_OK, NULL), NULL, NULL);
    expect_machine(machine_after(&room, GPU_CONDITION_FAULT, NULL), fault, NULL);
    room_clear(&room);
}

static void test_storage_problem(void) {
    struct room room;
    json_t *news;

    room_init(&room);
    room.bed.now = host_now();
    room.n_nodes = 1;
    say_hello(&room, "n0");
    event_view_start(room.view);
    submit(&room.bed, "n0::0", 1);
    commit(&room.bed, "no space left");
    news = event_view_turn(room.view, false);
    g_assert_cmpstr(json_string_value(json_object_get(news, "storage_problem")), ==, "no space left");
    json_decref(news);
    submit(&room.bed, "n0::0", 1);
    commit(&room.bed, NULL);
    news = event_view_turn(room.view, false);
    g_assert_true(json_is_null(json_object_get(news, "storage_problem")));
    json_decref(news);
    room_clear(&room);
}

static void test_command_is_cut(void) {
    const char *argv[] = {"sh", "-c", "echo 'a b'", NULL};
    g_autofree char *umlauts = NULL;
    struct room room;
    GString *text = g_string_new(NULL);
    struct task_spec spec = {.argv = (char **)(uintptr_t)argv};
    struct task task = {.id = 7, .spec = &spec, .target = (char *)"", .state = TASK_FAILED};
    json_t *row;

    room_init(&room);
    row = api_task_short(&room.host, &task);
    g_assert_cmpstr(json_string_value(json_object_get(row, "command_text")), ==, "sh -c 'echo '\\''a b'\\'''");
    json_decref(row);
    for (int i = 0; i < 500; i++)
        g_string_append(text, "ü");
    umlauts = g_string_free(text, FALSE);
    for (int shift = 0; shift < 2; shift++) {
        const char *cut;

        argv[0] = shift ? "a" : "ab";
        argv[1] = umlauts;
        argv[2] = NULL;
        row = api_task_short(&room.host, &task);
        cut = json_string_value(json_object_get(row, "command_text"));
        g_assert_nonnull(cut); /* valid UTF-8 */
        g_assert_cmpuint(strlen(cut), <=, TASK_SHORT_COMMAND_BYTES);
        g_assert_cmpuint(strlen(cut), >=, TASK_SHORT_COMMAND_BYTES - 4);
        g_assert_true(g_str_has_suffix(cut, "…"));
        json_decref(row);
    }
    room_clear(&room);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/events/ring", test_ring);
    g_test_add_func("/events/figures", test_figures);
    g_test_add_func("/events/what is told adds up to what is", test_adds_up);
    g_test_add_func("/events/figures wait, states do not", test_figures_wait);
    g_test_add_func("/events/a machine's row follows its node's word", test_machine_follows_its_node);
    g_test_add_func("/events/storage problem", test_storage_problem);
    g_test_add_func("/events/command is cut", test_command_is_cut);
    return g_test_run();
}
