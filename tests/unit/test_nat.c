/* The machines' own network: what is an address, who gets which, what the packet filter is told; and, in a network namespace of the
 * test's own (as root), that the kernel and nft take it, twice. */

#include <glib.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "golden.h"
#include "vm/nat.h"
#include "vm/nat_bridge.h"

static struct nat_net parse(const char *text) {
    struct nat_net net = {0};
    g_autoptr(GError) error = NULL;

    g_assert_true(nat_net_parse(text, "krtest0", &net, &error));
    g_assert_no_error(error);
    return net;
}

static void test_bad(void) {
    static const char *const nets[] = {"",           "10.88.0.1",    "10.88.0.1/15",   "10.88.0.1/30",
                                       "10.88.0/24", "10.88.0.0/24", "10.88.0.255/24", "10.88.0.1/24/2",
                                       "::1/64",     "10.88.0.1/x",  "256.1.1.1/24"};
    static const char *const bridges[] = {"", "a-bridge", "0bridge", "sixteen_letters_", "x;drop", "a\"b"};
    struct nat_net net;

    for (size_t i = 0; i < G_N_ELEMENTS(nets); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(nat_net_parse(nets[i], "krtest0", &net, &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_USAGE);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bridges); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(nat_net_parse("10.88.0.1/24", bridges[i], &net, &error));
        g_assert_error(error, KR_ERROR, KR_ERROR_USAGE);
    }
}

/* Never the node's own, the network's or the broadcast address, never one twice; a full network says so. */
static void test_addresses(void) {
    struct nat_net net = parse("10.88.0.2/29");
    g_autoptr(GPtrArray) taken = g_ptr_array_new_with_free_func(g_free);
    static const char *const want[] = {"10.88.0.1", "10.88.0.3", "10.88.0.4", "10.88.0.5", "10.88.0.6"};
    g_autoptr(GError) error = NULL;

    g_ptr_array_add(taken, g_strdup("")); /* a disk that has none */
    for (size_t i = 0; i < G_N_ELEMENTS(want); i++) {
        char *address;
        g_ptr_array_add(taken, NULL);
        address = nat_choose_address(&net, (const char *const *)taken->pdata, &error);
        g_ptr_array_set_size(taken, (int)taken->len - 1);
        g_assert_cmpstr(address, ==, want[i]);
        g_assert_true(nat_is_guest_address(&net, address));
        g_ptr_array_add(taken, address);
    }
    g_ptr_array_add(taken, NULL);
    g_assert_null(nat_choose_address(&net, (const char *const *)taken->pdata, &error));
    g_assert_error(error, KR_ERROR, KR_ERROR_REFUSED);
    g_assert_false(nat_is_guest_address(&net, "10.88.0.2"));
    g_assert_false(nat_is_guest_address(&net, "10.88.0.0"));
    g_assert_false(nat_is_guest_address(&net, "10.88.0.7"));
    g_assert_false(nat_is_guest_address(&net, "10.88.0.9"));
    g_assert_false(nat_is_guest_address(&net, ""));
}

static void test_rules(void) {
    struct nat_net net = parse("10.88.7.1/22");
    g_autofree char *rules = nat_ruleset(&net);

    golden_check("nat-rules.txt", rules);
}

static void test_name_servers(void) {
    g_auto(GStrv) servers = nat_name_servers("# nameserver 9.9.9.9\nsearch lab\nnameserver 127.0.0.53\nnameserver\n"
                                             "  nameserver \t192.0.2.1 \nnameserver fe80::1\nnameserver 192.0.2.2\n");
    g_autofree char *joined = g_strjoinv(" ", servers);

    g_assert_cmpstr(joined, ==, "192.0.2.1 192.0.2.2");
}

/* What leads outside has a gateway; a container's bridge has none. */
static void test_outside_links(void) {
    g_auto(GStrv) links = nat_outside_links("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\n"
                                            "eth0\t00000000\t010011AC\t0003\t0\t0\n"
                                            "ib0\t0000000A\t010011AC\t0003\t0\t0\n"
                                            "eth0\t0000A8C0\t010011AC\t0003\t0\t0\n"
                                            "docker0\t000011AC\t00000000\t0001\t0\t0\n");
    g_autofree char *joined = g_strjoinv(" ", links);

    g_assert_cmpstr(joined, ==, "eth0 ib0");
}

/* ---- the kernel ---- */

static char *run(const char *const *argv) {
    char *out = NULL;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &out, NULL,
                 NULL, NULL);
    return out ? out : g_strdup("");
}
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static void on_ensured(void *user, const GError *error) {
    GString *answer = user;

    g_string_assign(answer, error ? error->message : "done");
}

static void ensure(const struct nat_net *net, GString *answer) {
    uv_loop_t loop;

    g_string_assign(answer, "");
    uv_loop_init(&loop);
    nat_bridge_ensure(&loop, net, on_ensured, answer);
    uv_run(&loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&loop), ==, 0);
}

static void test_bridge(void) {
    struct nat_net net = parse("10.88.0.1/24");
    g_autoptr(GString) answer = g_string_new(NULL);
    g_autofree char *nft = g_find_program_in_path("nft"), *ip = g_find_program_in_path("ip");
    g_autofree char *address = NULL, *rules = NULL, *again = NULL;

    if (!nft || !ip) {
        g_test_skip("nft or ip is not installed");
        return;
    }
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
        g_test_skip("a network namespace needs root");
        return;
    }
    ensure(&net, answer);
    g_assert_cmpstr(answer->str, ==, "done");
    address = RUN("ip", "-4", "-o", "address", "show", "dev", "krtest0");
    g_assert_nonnull(strstr(address, "10.88.0.1/24 brd 10.88.0.255"));
    rules = RUN("nft", "list", "table", "inet", "kohakuriver_krtest0");
    g_assert_nonnull(strstr(rules, "masquerade"));
    g_free(RUN("nft", "flush", "ruleset")); /* somebody else's order: the next start puts it right */
    ensure(&net, answer);
    g_assert_cmpstr(answer->str, ==, "done");
    again = RUN("nft", "list", "table", "inet", "kohakuriver_krtest0");
    g_assert_cmpstr(again, ==, rules);
    g_free(RUN("ip", "link", "add", "kralien0", "type", "bridge"));
    g_strlcpy(net.bridge, "kralien0", sizeof net.bridge);
    ensure(&net, answer);
    g_assert_nonnull(strstr(answer->str, "not the machines'"));
}

/* Docker's chain, where it is: leave to pass is given once, however often it is asked for. */
static void test_docker(void) {
    struct nat_net net = parse("10.88.0.1/24");
    g_autoptr(GString) answer = g_string_new(NULL);
    g_autofree char *nft = g_find_program_in_path("nft"), *chain = NULL;
    g_auto(GStrv) parts = NULL;

    if (!nft || geteuid() != 0 || unshare(CLONE_NEWNET) != 0) {
        g_test_skip("needs nft, and root for a network namespace");
        return;
    }
    g_free(RUN("nft", "add table ip filter\nadd chain ip filter DOCKER-USER\n"));
    ensure(&net, answer); /* nothing leads outside, so nothing is let pass */
    g_assert_cmpstr(answer->str, ==, "done");
    chain = RUN("nft", "list", "chain", "ip", "filter", "DOCKER-USER");
    g_assert_null(strstr(chain, "accept"));
    g_clear_pointer(&chain, g_free);
    g_free(RUN("ip", "link", "add", "krout0", "type", "bridge"));
    g_free(RUN("ip", "address", "add", "192.0.2.1/24", "dev", "krout0"));
    g_free(RUN("ip", "link", "set", "krout0", "up"));
    g_free(RUN("ip", "route", "add", "default", "via", "192.0.2.2"));
    ensure(&net, answer);
    ensure(&net, answer);
    g_assert_cmpstr(answer->str, ==, "done");
    chain = RUN("nft", "list", "chain", "ip", "filter", "DOCKER-USER");
    g_assert_nonnull(strstr(chain, "iifname \"krtest0\" oifname \"krout0\" accept"));
    parts = g_strsplit(chain, "accept", -1);
    g_assert_cmpint((int)g_strv_length(parts), ==, 3);
}

int main(int argc, char **argv) {
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nat/bad", test_bad);
    g_test_add_func("/nat/addresses", test_addresses);
    g_test_add_func("/nat/rules", test_rules);
    g_test_add_func("/nat/name-servers", test_name_servers);
    g_test_add_func("/nat/outside-links", test_outside_links);
    g_test_add_func("/nat/bridge", test_bridge);
    g_test_add_func("/nat/docker", test_docker);
    return g_test_run();
}
