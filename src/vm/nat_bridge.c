#include "vm/nat_bridge.h"

#include <string.h>

#include "base/error.h"
#include "base/fs.h"
#include "vm/child.h"
#include "vm/nat_link.h"

enum { NFT_MS = 15000, MAX_ROUTES_BYTES = 1 << 20 };
#define FORWARD_FILE "/proc/sys/net/ipv4/ip_forward"
#define ROUTES_FILE "/proc/net/route"
#define DOCKER_CHAIN "ip filter DOCKER-USER"

struct nat_bridge_call {
    const struct nat_net *net;
    struct child *child;
    uv_timer_t later; /* answers that need no child */
    GError *error;
    nat_bridge_cb *on_done;
    void *user;
};

static void on_closed(uv_handle_t *handle) {
    struct nat_bridge_call *call = handle->data;

    g_clear_error(&call->error);
    g_free(call);
}

static void done(struct nat_bridge_call *call, const GError *error) {
    call->on_done(call->user, error);
    uv_close((uv_handle_t *)&call->later, on_closed);
}

void nat_bridge_cancel(struct nat_bridge_call *call) {
    if (!call)
        return;
    child_cancel(call->child);
    uv_close((uv_handle_t *)&call->later, on_closed);
}

static void on_failed(uv_timer_t *timer) {
    struct nat_bridge_call *call = timer->data;

    done(call, call->error);
}

static void nft(struct nat_bridge_call *call, const char *first, const char *second, child_done_cb *on_done) {
    const char *argv[] = {"nft", first, second, NULL};

    call->child = child_run(call->later.loop, (char *const *)argv, NFT_MS, on_done, call);
}

/* ---- Docker drops what is forwarded and not its own; rules in this chain stand before that. They let pass what goes outside and what comes
 * back, and nothing between machines and containers ---- */

static void on_let_pass(void *user, const char *out, const GError *error) {
    struct nat_bridge_call *call = user;

    call->child = NULL;
    done(call, error);
}

static void add_rules(GString *rules, const struct nat_net *net, const char *outside, const char *listed) {
    g_autofree char *mark = g_strdup_printf("comment \"kohakuriver %s %s\"", net->bridge, outside);

    if (strstr(listed, mark))
        return;
    g_string_append_printf(rules,
                           "insert rule " DOCKER_CHAIN " iifname \"%s\" oifname \"%s\" accept %s\n"
                           "insert rule " DOCKER_CHAIN
                           " iifname \"%s\" oifname \"%s\" ct state established,related accept %s\n",
                           net->bridge, outside, mark, outside, net->bridge, mark);
}

static void on_docker_listed(void *user, const char *out, const GError *error) {
    struct nat_bridge_call *call = user;
    g_autofree char *routes = NULL;
    g_auto(GStrv) outside = NULL;
    g_autoptr(GString) rules = g_string_new(NULL);

    call->child = NULL;
    if (!error && fs_read_file(ROUTES_FILE, MAX_ROUTES_BYTES, &routes, NULL, NULL))
        outside = nat_outside_links(routes);
    for (char **link = outside; link && *link; link++)
        add_rules(rules, call->net, *link, out);
    if (rules->len == 0) /* no Docker, or it is done */
        done(call, NULL);
    else
        nft(call, rules->str, NULL, on_let_pass);
}

/* ---- the filter ---- */

static void on_filtered(void *user, const char *out, const GError *error) {
    struct nat_bridge_call *call = user;
    g_autoptr(GError) said = NULL;

    call->child = NULL;
    if (!error) {
        nft(call, "list chain " DOCKER_CHAIN, NULL, on_docker_listed);
        return;
    }
    said = g_error_new(KR_ERROR, error->code, "nft (is nftables installed?): %s", error->message);
    done(call, said);
}

static bool forward(GError **error) {
    g_autofree char *text = NULL;

    if (fs_read_file(FORWARD_FILE, 16, &text, NULL, NULL) && text[0] == '1')
        return true;
    return fs_write_plain(FORWARD_FILE, 0644, "1\n", 2, error);
}

struct nat_bridge_call *nat_bridge_ensure(uv_loop_t *loop, const struct nat_net *net, nat_bridge_cb *on_done,
                                          void *user) {
    struct nat_bridge_call *call = g_new0(struct nat_bridge_call, 1);
    g_autofree char *rules = nat_ruleset(net);

    call->net = net;
    call->on_done = on_done;
    call->user = user;
    uv_timer_init(loop, &call->later);
    call->later.data = call;
    if (nat_link_ensure(net, &call->error) && forward(&call->error))
        nft(call, rules, NULL, on_filtered);
    else
        uv_timer_start(&call->later, on_failed, 0, 0);
    return call;
}
