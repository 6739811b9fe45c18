/* Where cards sit and how they are joined, and who uses them. */

#include <sys/sysmacros.h>

#include "gpu/gpu_procs.h"
#include "gpu/gpu_topology.h"
#include "gpu_fixture.h"

/* ---- kinds, pure ---- */

static struct gpu_site *site_at(const char *path, int numa) {
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    guint n = g_strv_length(parts);
    struct gpu_site *site = gpu_site_new(n ? parts[n - 1] : "0000:ff:00.0");

    g_strfreev(site->path);
    site->path = g_steal_pointer(&parts);
    site->numa_node = numa;
    return site;
}

static void test_kinds(void) {
    static const struct {
        const char *a, *b;
        int numa_a, numa_b;
        const char *kind;
    } cases[] = {
        /* below one switch: upstream port 02, downstream ports 03:00 and 03:01 */
        {"pci0000:00/0000:00:01.0/0000:02:00.0/0000:03:00.0/0000:04:00.0",
         "pci0000:00/0000:00:01.0/0000:02:00.0/0000:03:01.0/0000:05:00.0", 0, 0, "PIX"},
        /* two functions of one board */
        {"pci0000:00/0000:00:01.0/0000:02:00.0", "pci0000:00/0000:00:01.0/0000:02:00.1", 0, 0, "PIX"},
        /* a switch behind a switch */
        {"pci0000:00/0000:00:01.0/0000:02:00.0/0000:03:00.0/0000:04:00.0/0000:05:00.0/0000:06:00.0",
         "pci0000:00/0000:00:01.0/0000:02:00.0/0000:03:01.0/0000:07:00.0", 0, 0, "PXB"},
        /* two root ports of one host bridge */
        {"pci0000:00/0000:00:01.0/0000:02:00.0", "pci0000:00/0000:00:03.0/0000:03:00.0", 0, 0, "PHB"},
        {"pci0000:00/0000:00:01.0/0000:02:00.0", "pci0000:40/0000:40:01.0/0000:41:00.0", 0, 0, "NODE"},
        {"pci0000:00/0000:00:01.0/0000:02:00.0", "pci0000:80/0000:80:01.0/0000:81:00.0", 0, 1, "SYS"},
        {"", "", -1, -1, "NODE"}, /* nothing is known but that the machine has no NUMA nodes */
        {"", "", 0, 1, "SYS"},
    };
    char kind[GPU_LINK_KIND_BYTES];

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct gpu_site *a = site_at(cases[i].a, cases[i].numa_a), *b = site_at(cases[i].b, cases[i].numa_b);
        g_assert_cmpstr(gpu_link_kind(a, b, kind), ==, cases[i].kind);
        g_assert_cmpstr(gpu_link_kind(b, a, kind), ==, cases[i].kind);
        gpu_site_free(a);
        gpu_site_free(b);
    }
}

static void test_nvlink_kinds(void) {
    struct gpu_site *a = site_at("pci0000:00/0000:01:00.0", 0), *b = site_at("pci0000:40/0000:02:00.0", 0);
    char kind[GPU_LINK_KIND_BYTES];
    json_t *json;
    struct gpu_site *copy;

    for (int i = 0; i < 4; i++)
        gpu_site_add_link(a, "0000:02:00.0");
    g_assert_cmpstr(gpu_link_kind(a, b, kind), ==, "NV4"); /* b could not be asked */
    for (int i = 0; i < 18; i++)
        gpu_site_add_link(a, NULL);
    g_assert_cmpstr(gpu_link_kind(b, a, kind), ==, "NV4"); /* b has no link to a switch */
    for (int i = 0; i < 12; i++)
        gpu_site_add_link(b, NULL);
    g_assert_cmpstr(gpu_link_kind(b, a, kind), ==, "NV16");
    json = gpu_site_to_json(a);
    copy = gpu_site_from_json(json, NULL);
    g_assert_nonnull(copy);
    g_assert_cmpstr(gpu_link_kind(copy, b, kind), ==, "NV16");
    json_object_set_new(json, "nvlinks", json_pack("[{s:s}]", "remote", "x"));
    g_assert_null(gpu_site_from_json(json, NULL));
    json_decref(json);
    gpu_site_free(copy);
    gpu_site_free(a);
    gpu_site_free(b);
}

/* ---- by the monitor ---- */

/* Two switches with two cards each, on two sockets; cards 0 and 1 joined by four NVLinks. */
static void build_tree(struct fixture *f) {
    static const char *const hosts[] = {"pci0000:15", "0000:15:01.0", "0000:16:00.0"};
    static const char *const hosts_b[] = {"pci0000:97", "0000:97:01.0", "0000:98:00.0"};

    for (size_t i = 0; i < 4; i++) {
        const char *const *host = i < 2 ? hosts : hosts_b;
        g_autofree char *port = g_strdup_printf("0000:%s:0%zu.0", i < 2 ? "17" : "99", i % 2);

        json_object_set_new(card(f, i), "path", json_pack("[s,s,s,s]", host[0], host[1], host[2], port));
        json_object_set_new(card(f, i), "cpus", json_string(i < 2 ? "0-15,32-47" : "16-31,48-63"));
        json_object_set_new(card(f, i), "nvlinks", json_pack("[n,n]"));
    }
    for (int k = 0; k < 4; k++) {
        json_array_append_new(json_object_get(card(f, 0), "nvlinks"), json_string("0000:2a:00.0"));
        json_array_append_new(json_object_get(card(f, 1), "nvlinks"), json_string("0000:18:00.0"));
    }
}

static const char *kind_of(struct fixture *f, json_t *topology, size_t a, size_t b) {
    const json_t *link;
    size_t i;

    json_array_foreach (json_object_get(topology, "links"), i, link)
        if (strcmp(json_string_value(json_object_get(link, "a")), uuid_of(f, a)) == 0 &&
            strcmp(json_string_value(json_object_get(link, "b")), uuid_of(f, b)) == 0)
            return json_string_value(json_object_get(link, "kind"));
    return NULL;
}

static bool has_kind(struct fixture *f, size_t a, size_t b, const char *kind) {
    json_t *topology = gpu_monitor_topology(f->monitor);
    bool is_so = g_strcmp0(kind_of(f, topology, a, b), kind) == 0;

    json_decref(topology);
    return is_so;
}

static void test_topology(struct fixture *f, const void *data) {
    json_t *topology, *first;

    stop_monitor(f);
    build_tree(f);
    apply(f);
    start_monitor(f);
    topology = gpu_monitor_topology(f->monitor);
    g_assert_cmpuint(json_array_size(json_object_get(topology, "gpus")), ==, 0);
    json_decref(topology);
    WAIT_FOR(f, all_ok(f));
    topology = gpu_monitor_topology(f->monitor);
    g_assert_cmpuint(json_array_size(json_object_get(topology, "gpus")), ==, 4);
    g_assert_cmpuint(json_array_size(json_object_get(topology, "links")), ==, 6);
    first = json_array_get(json_object_get(topology, "gpus"), 0);
    g_assert_cmpstr(json_string_value(json_object_get(first, "uuid")), ==, uuid_of(f, 0));
    g_assert_cmpstr(json_string_value(json_object_get(first, "cpus")), ==, "0-15,32-47");
    g_assert_cmpint(json_integer_value(json_object_get(first, "numa_node")), ==, 0);
    g_assert_cmpint(json_integer_value(json_object_get(first, "index")), ==, 0);
    g_assert_cmpstr(kind_of(f, topology, 0, 1), ==, "NV4");
    g_assert_cmpstr(kind_of(f, topology, 2, 3), ==, "PIX");
    g_assert_cmpstr(kind_of(f, topology, 0, 2), ==, "SYS");
    json_decref(topology);
}

/* A card that is lost or given to a VM keeps its place, and so do the others (L57). */
static void test_topology_of_lost(struct fixture *f, const void *data) {
    json_t *topology;

    stop_monitor(f);
    build_tree(f);
    apply(f);
    start_monitor(f);
    WAIT_FOR(f, has_kind(f, 0, 1, "NV4"));
    json_object_set_new(card(f, 0), "state", json_string("lost"));
    json_object_set_new(card(f, 2), "state", json_string("vfio"));
    json_object_set_new(card(f, 3), "state", json_string("gone"));
    apply(f);
    WAIT_FOR(f, gpu(f, 0)->condition == GPU_CONDITION_FAULT && gpu(f, 2)->condition == GPU_CONDITION_VFIO &&
                    gpu(f, 3)->condition == GPU_CONDITION_REMOVED);
    WAIT_FOR(f, has_kind(f, 0, 1, "NV4") && has_kind(f, 2, 3, "PIX") && has_kind(f, 1, 2, "SYS"));
    topology = gpu_monitor_topology(f->monitor);
    g_assert_cmpuint(json_array_size(json_object_get(topology, "gpus")), ==, 4);
    json_decref(topology);
    json_object_set_new(card(f, 2), "state", json_string("ok")); /* and one that moved is at its new place */
    json_object_set_new(card(f, 2), "path", json_pack("[s,s,s]", "pci0000:97", "0000:97:02.0", "0000:b8:00.0"));
    json_object_set_new(card(f, 3), "state", json_string("ok"));
    apply(f);
    WAIT_FOR(f, has_kind(f, 2, 3, "PHB"));
}

/* ---- who uses a card ---- */

static void test_container_ids(void) {
    static const char id[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const struct {
        const char *text;
        bool is_one;
    } cases[] = {
        {"0::/system.slice/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope\n", true},
        {"12:devices:/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n0::/\n", true},
        {"0::/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/sub\n", true},
        {"0::/user.slice/user-1000.slice\n", false},
        {"0::/x/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0\n", false},
        {"0::/x/0123456789abcdef0123456789abcdef\n", false},
        {"", false},
    };
    char got[GPU_USER_CONTAINER_BYTES];

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_true(gpu_container_of_cgroup(cases[i].text, got) == cases[i].is_one);
        if (cases[i].is_one)
            g_assert_cmpstr(got, ==, id);
    }
}

/* Our own process, as the library lists it, is told with what names it for good; a pid that is nobody's is told as such. */
static void test_users(struct fixture *f, const void *data) {
    json_t *list = json_object_get(card(f, 1), "processes");
    int64_t started_ms;

    WAIT_FOR(f, all_ok(f));
    json_array_append_new(list, json_pack("{s:i,s:i}", "pid", (int)getpid(), "memory_mib", 300));
    json_array_append_new(list, json_pack("{s:i,s:s}", "pid", (int)getpid(), "kind", "graphics"));
    json_array_append_new(list, json_pack("{s:i}", "pid", 4190001));
    apply(f);
    WAIT_FOR(f, gpu(f, 1)->condition == GPU_CONDITION_FOREIGN);
    ask_users(f, uuid_of(f, 1));
    g_assert_null(f->no_answer);
    g_assert_cmpuint(json_array_size(f->answer), ==, 2); /* one process is one line, in however many lists */
    g_assert_cmpint(answer_number(f, 0, "pid"), ==, getpid());
    g_assert_cmpint(answer_number(f, 0, "memory_bytes"), ==, 300LL << 20);
    started_ms = answer_number(f, 0, "started_ms");
    g_assert_cmpint(started_ms, <=, clock_wall_ms() + 1000);
    g_assert_cmpint(started_ms, >, clock_wall_ms() - 3600 * 1000);
    g_assert_cmpint(answer_number(f, 1, "started_ms"), ==, -1); /* gone: nothing is made up */
    g_assert_cmpstr(json_string_value(json_object_get(json_array_get(f->answer, 1), "command")), ==, "?");
    ask_users(f, uuid_of(f, 0));
    g_assert_cmpuint(json_array_size(f->answer), ==, 0);
    ask_users(f, "GPU-nobody");
    g_assert_true(says(f->no_answer, "no card answers to this UUID"));
    json_object_set_new(card(f, 0), "state", json_string("lost"));
    apply(f);
    ask_users(f, uuid_of(f, 0));
    g_assert_true(says(f->no_answer, "GPU is lost"));
}

/* The pid of a process that ended is given to another one: its start tells them apart. */
static void test_pid_reuse(void) {
    struct gpu_user first = {.pid = getpid()}, second = {.pid = 1};
    struct gpu_user again = first;

    gpu_user_describe(&first);
    gpu_user_describe(&again);
    gpu_user_describe(&second);
    g_assert_cmpint(ABS(first.started_ms - again.started_ms), <=, 50);
    g_assert_cmpint(first.started_ms, >, second.started_ms);
    g_assert_cmpstr(first.command, ==, "test_gpu_topolo");
}

int main(int argc, char **argv) {
    static const struct {
        const char *path;
        void (*run)(struct fixture *f, const void *data);
    } tests[] = {{"/gpu/topology/as-seen", test_topology},
                 {"/gpu/topology/L57-of-cards-that-are-lost", test_topology_of_lost},
                 {"/gpu/users/of-one-card", test_users}};

    g_test_init(&argc, &argv, NULL);
    log_init(LOG_LEVEL_ERROR);
    g_test_add_func("/gpu/topology/kinds", test_kinds);
    g_test_add_func("/gpu/topology/nvlink", test_nvlink_kinds);
    g_test_add_func("/gpu/users/container-ids", test_container_ids);
    g_test_add_func("/gpu/users/pid-reuse", test_pid_reuse);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, struct fixture, NULL, setup, tests[i].run, teardown);
    return g_test_run();
}
