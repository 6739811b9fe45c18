/* What comes from QEMU and from the guest, byte by byte. */

#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "vm/guest_agent.h"
#include "vm/qmp.h"

struct seen {
    GString *text;
};

static void on_greeting(void *user, const char *version) { g_string_append_printf(user, "greeting %s;", version); }

static void on_answer(void *user, int64_t id, const json_t *value, const char *failure) {
    g_string_append_printf(user, "answer %d %s;", (int)id,
                           failure                 ? failure
                           : json_is_object(value) ? "object"
                                                   : "other");
}

static void on_event(void *user, const char *name, const json_t *data) {
    const char *reason = json_string_value(json_object_get(data, "reason"));

    g_string_append_printf(user, "event %s %s;", name, reason ? reason : "-");
}

static const struct qmp_handlers handlers = {on_greeting, on_answer, on_event};

static const char conversation[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": [\"oob\"]}}\r\n"
    "{\"timestamp\": {\"seconds\": 1}, \"event\": \"RESUME\"}\r\n"
    "{\"return\": {}, \"id\": 3}\r\n"
    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 4}\r\n"
    "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n";
static const char heard[] = "greeting 7.2.22;event RESUME -;answer 3 object;answer 4 GenericError: no;"
                            "event SHUTDOWN guest-shutdown;";

static void test_qmp_cuts(void) {
    for (size_t step = 1; step < sizeof conversation; step += step < 20 ? 1 : 37) {
        g_autoptr(GString) text = g_string_new(NULL);
        struct qmp qmp;

        qmp_init(&qmp, &handlers, text);
        for (size_t at = 0; at < strlen(conversation); at += step)
            g_assert_true(qmp_feed(&qmp, conversation + at, MIN(step, strlen(conversation) - at), NULL));
        g_assert_cmpstr(text->str, ==, heard);
        qmp_clear(&qmp);
    }
}

static void test_qmp_broken(void) {
    static const char *const bad[] = {"no json\n", "[]\n", "{\"x\":1}\n", "{\"error\":{\"desc\":\"?\"}}\n"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GString) text = g_string_new(NULL);
        g_autoptr(GError) error = NULL;
        struct qmp qmp;

        qmp_init(&qmp, &handlers, text);
        g_assert_false(qmp_feed(&qmp, bad[i], strlen(bad[i]), &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_IO);
        g_assert_false(qmp_feed(&qmp, conversation, strlen(conversation), NULL));
        g_assert_cmpstr(text->str, ==, "");
        qmp_clear(&qmp);
    }
}

static void test_qmp_command(void) {
    g_autofree char *line = qmp_command(7, "device_del", json_pack("{s:s}", "id", "gpu0"));

    g_assert_cmpstr(line, ==, "{\"execute\":\"device_del\",\"id\":7,\"arguments\":{\"id\":\"gpu0\"}}\n");
}

/* ---- the guest ---- */

static void on_report(void *user, const struct guest_state *state) {
    g_string_append_printf(user, "%s %d %s %s %zu", state->address, state->is_ready, guest_driver_to_str(state->driver),
                           state->driver_version, state->n_gpus);
    for (size_t i = 0; i < state->n_gpus; i++)
        g_string_append_printf(user, " [%s %d %" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %d]", state->gpus[i].name,
                               state->gpus[i].utilization_percent, state->gpus[i].mem_used_bytes >> 20,
                               state->gpus[i].mem_total_bytes >> 20, state->gpus[i].temperature_celsius);
    g_string_append_printf(user, "%s%s", state->host_key[0] ? " key " : "", state->host_key);
    g_string_append_c(user, ';');
}

#define REPORT(secret)                                                                                 \
    "{\"secret\":\"" secret                                                                            \
    "\",\"address\":\"10.0.2.15\",\"ready\":true,\"driver\":\"ready\",\"driver_version\":\"535.104\"," \
    "\"gpus\":[\"NVIDIA H100, 12, 1024, 81559, [N/A]\"]}\n"

static void feed(GString *text, const char *bytes, int64_t *ret_refused) {
    struct agent_pump pump;

    agent_pump_init(&pump, "s3cret", on_report, text);
    for (size_t at = 0; at < strlen(bytes); at += 7)
        agent_pump_feed(&pump, bytes + at, MIN(7, strlen(bytes) - at));
    *ret_refused = pump.n_refused;
    agent_pump_clear(&pump);
}

static void test_agent(void) {
    g_autoptr(GString) text = g_string_new(NULL);
    int64_t refused;

    feed(text, "rubbish\n" REPORT("s3cret"), &refused);
    g_assert_cmpstr(text->str, ==, "10.0.2.15 1 ready 535.104 1 [NVIDIA H100 12 1024 81559 -1];");
    g_assert_cmpint(refused, ==, 1);
}

/* A key becomes a line of a known_hosts file: nothing but an ed25519 key is taken, however the guest words it. */
static void test_agent_host_key(void) {
    static const char good[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1c3QgaXMgbm90IGEgcmVhbCBrZXkgYXQgYWxsLi4u";
    static const char *const bad[] = {
        "ssh-rsa AAAAB3NzaC1yc2E", "ssh-ed25519 AAAA", "ssh-ed25519",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJ1c3QgaXMgbm90IGEgcmVhbCBrZXkgYXQgYWxs\\n* cert-authority"};
    int64_t refused;

    g_assert_true(guest_host_key_is_valid(good));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *line = g_strdup_printf("{\"secret\":\"s3cret\",\"host_key\":\"%s\"}\n", bad[i]);
        g_autoptr(GString) text = g_string_new(NULL);
        feed(text, line, &refused);
        g_assert_null(strstr(text->str, "key"));
    }
    {
        g_autofree char *line = g_strdup_printf("{\"secret\":\"s3cret\",\"host_key\":\"%s\"}\n", good);
        g_autoptr(GString) text = g_string_new(NULL);
        feed(text, line, &refused);
        g_assert_nonnull(strstr(text->str, good));
    }
}

/* From the node to the host and back it stays what it was. */
static void test_guest_json(void) {
    static const char text[] =
        "{\"task_id\":7,\"heard\":true,\"ready\":false,\"silent\":true,\"late\":true,\"address\":\"10.0.2.15\","
        "\"driver\":\"failed\",\"driver_version\":\"535.104\",\"driver_text\":\"the module does not "
        "load\",\"ssh_host_key\":"
        "\"ssh-ed25519 "
        "AAAAC3NzaC1lZDI1NTE5AAAAIHJ1c3QgaXMgbm90IGEgcmVhbCBrZXkgYXQgYWxsLi4u\",\"gpus\":[{\"name\":\"H100\","
        "\"utilization_percent\":3,\"memory_used_bytes\":4,\"memory_total_bytes\":5,\"temperature_celsius\":6},{"
        "\"name\":"
        "\"?\"}]}";
    g_autoptr(GError) error = NULL;
    json_t *json = json_loads(text, 0, NULL), *again;
    struct guest *guest = guest_from_json(json, &error);

    g_assert_no_error(error);
    again = guest_to_json(guest);
    g_assert_true(json_equal(json, again));
    json_object_set_new(json, "ssh_host_key", json_string("*"));
    g_assert_null(guest_from_json(json, &error));
    json_decref(json);
    json_decref(again);
    guest_free(guest);
}

/* Another machine's secret, none, a longer one: nobody speaks for another (defect 45 of others). */
static void test_agent_secret(void) {
    g_autoptr(GString) text = g_string_new(NULL);
    int64_t refused;

    feed(text, REPORT("s3cres") REPORT("") REPORT("s3cret2") "{\"ready\":true}\n", &refused);
    g_assert_cmpstr(text->str, ==, "");
    g_assert_cmpint(refused, ==, 4);
}

/* A line that never ends costs no memory, and what follows is heard. Control characters reach nobody's terminal. */
static void test_agent_flood(void) {
    g_autoptr(GString) text = g_string_new(NULL), bytes = g_string_new(NULL);
    int64_t refused;

    for (int i = 0; i < 100000; i++)
        g_string_append_c(bytes, 'x');
    g_string_append(bytes, "\n{\"secret\":\"s3cret\",\"address\":\"\\u001b[2J10.1.1.1\\n\"}\n");
    feed(text, bytes->str, &refused);
    g_assert_cmpstr(text->str, ==, "[2J10.1.1.1 0 unset  0;");
    g_assert_cmpint(refused, ==, 1);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm-pumps/qmp-cuts", test_qmp_cuts);
    g_test_add_func("/vm-pumps/qmp-broken", test_qmp_broken);
    g_test_add_func("/vm-pumps/qmp-command", test_qmp_command);
    g_test_add_func("/vm-pumps/agent", test_agent);
    g_test_add_func("/vm-pumps/agent-secret", test_agent_secret);
    g_test_add_func("/vm-pumps/agent-flood", test_agent_flood);
    g_test_add_func("/vm-pumps/agent-host-key", test_agent_host_key);
    g_test_add_func("/vm-pumps/guest-json", test_guest_json);
    return g_test_run();
}
