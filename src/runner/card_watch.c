#include "runner/card_watch.h"

#include "gpu/gpu_monitor.h"
#include "gpu/gpu_pci.h"
#include "vfio/vfio_switch.h"

struct card_watch {
    struct gpu_monitor *monitor;
    struct vfio_switcher *switcher; /* borrowed */
    char **wanted;                  /* of the bind that is under way; NULL: none */
    void (*on_change)(void *user);
    void *user;
};

/* In the form that the monitor's cards have. */
static void add(GStrvBuilder *cards, const char *text) {
    char address[GPU_PCI_BYTES];
    struct pci_address at;

    if (pci_address_from_str(text, &at))
        g_strv_builder_add(cards, pci_address_to_str(&at, address));
}

void card_watch_update(struct card_watch *watch) {
    g_auto(GStrv) held = vfio_held_cards(watch->switcher), away = NULL;
    g_autoptr(GStrvBuilder) cards = g_strv_builder_new();

    for (char **card = held; *card; card++)
        add(cards, *card);
    for (char **card = watch->wanted; card && *card; card++)
        add(cards, *card);
    away = g_strv_builder_end(cards);
    gpu_monitor_set_away(watch->monitor, (const char *const *)away);
}

static void on_gone(void *user) { vfio_let_gone(((struct card_watch *)user)->switcher); }

static void let_go(void *user, char *const *gpus) {
    struct card_watch *watch = user;

    g_strfreev(watch->wanted);
    watch->wanted = g_strdupv((char **)gpus);
    card_watch_update(watch);
    gpu_monitor_let_go(watch->monitor, on_gone, watch);
}

static void look_again(void *user) {
    struct card_watch *watch = user;

    g_clear_pointer(&watch->wanted, g_strfreev);
    card_watch_update(watch);
    gpu_monitor_take_up(watch->monitor);
}

static void on_change(void *user) {
    struct card_watch *watch = user;

    card_watch_update(watch);
    if (watch->on_change)
        watch->on_change(watch->user);
}

struct card_watch *card_watch_new(struct gpu_monitor *monitor, void (*on_changed)(void *user), void *user) {
    struct card_watch *watch = g_new0(struct card_watch, 1);

    *watch = (struct card_watch){.monitor = monitor, .on_change = on_changed, .user = user};
    return watch;
}

void card_watch_free(struct card_watch *watch) {
    if (!watch)
        return;
    g_strfreev(watch->wanted);
    g_free(watch);
}

struct vfio_switcher *card_watch_switcher(struct card_watch *watch, uv_loop_t *loop,
                                          const struct vfio_switcher_config *config, GError **error) {
    struct vfio_switcher_config whole = *config;

    whole.let_go = let_go;
    whole.look_again = look_again;
    whole.on_change = on_change;
    whole.user = watch;
    watch->switcher = vfio_switcher_new(loop, &whole, error);
    return watch->switcher;
}
