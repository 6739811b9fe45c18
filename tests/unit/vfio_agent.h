#pragma once
/* A switcher on a loop of its own over a fake tree, and what the tests ask of it. */

#include <stdlib.h>
#include <uv.h>

#include "base/error.h"
#include "vfio/vfio_step.h"
#include "vfio/vfio_switch.h"
#include "vfio_fixture.h"

enum { AGENT_DEADLINE_MS = 4000 };

struct agent {
    uv_loop_t loop;
    struct vfio_switcher *s;
    char *root, *journals;
    int n_answers, n_changes, n_let_go;
    bool lets_go;
    struct vfio_hold *hold; /* a copy of the last bind's */
    char *error;            /* of the last answer; NULL: it succeeded */
    int code;
    GString *recovered; /* "OWNER STATE REASON\n" */
};

/* The test program is its own helper's real program: main hands the verb over. */
static inline void agent_be_helper(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "vfio-step") == 0)
        exit(vfio_step_main(argc - 1, argv + 1));
    setenv("KR_VFIO_REAL", "/proc/self/exe", 1);
    g_unsetenv("KOHAKURIVER_FAULT");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    setenv("KR_VFIO_REAL", self, 1);
}

/* The look waits for whoever of ours has the card open. */
static inline void agent_let_go(void *user, char *const *gpus) {
    struct agent *a = user;

    a->n_let_go++;
    g_assert_nonnull(gpus[0]);
    if (a->lets_go)
        vfio_let_gone(a->s);
}

static inline void agent_on_change(void *user) { ((struct agent *)user)->n_changes++; }

static inline struct agent *agent_new_with(const char *root, const struct vfio_switcher_config *given) {
    struct agent *a = g_new0(struct agent, 1);
    struct vfio_switcher_config config = *given;
    g_autoptr(GError) error = NULL;

    a->root = g_strdup(root);
    a->journals = g_build_filename(root, "journals", NULL);
    a->recovered = g_string_new(NULL);
    uv_loop_init(&a->loop);
    config.root = a->root;
    config.journal_dir = a->journals;
    config.helper = TEST_BUILD_ROOT "/tests/fakes/fake_vfio_kernel";
    config.boot_id = config.boot_id ? config.boot_id : "boot-1";
    config.step_deadline_ms = config.step_deadline_ms ? config.step_deadline_ms : AGENT_DEADLINE_MS;
    config.grace_ms = 500;
    config.watch_ms = 50;
    a->lets_go = true;
    config.let_go = agent_let_go;
    config.on_change = agent_on_change;
    config.user = a;
    a->s = vfio_switcher_new(&a->loop, &config, &error);
    g_assert_no_error(error);
    return a;
}

static inline void agent_free(struct agent *a) {
    vfio_switcher_free(a->s);
    uv_run(&a->loop, UV_RUN_DEFAULT);
    g_assert_cmpint(uv_loop_close(&a->loop), ==, 0);
    vfio_hold_free(a->hold);
    g_free(a->error);
    g_free(a->root);
    g_free(a->journals);
    g_string_free(a->recovered, TRUE);
    g_free(a);
}

static inline void agent_note(struct agent *a, const GError *error) {
    g_free(a->error);
    a->error = g_strdup(error ? error->message : NULL);
    a->code = error ? error->code : 0;
    a->n_answers++;
}

static inline void agent_on_bound(void *user, const struct vfio_hold *hold, const GError *error) {
    struct agent *a = user;
    json_t *json = hold ? vfio_hold_to_json(hold) : NULL;

    g_assert_true((hold == NULL) == (error != NULL));
    vfio_hold_free(a->hold);
    a->hold = json ? vfio_hold_from_json(json, NULL) : NULL;
    json_decref(json);
    agent_note(a, error);
}

static inline void agent_on_given_back(void *user, const GError *error) { agent_note(user, error); }

static inline void agent_on_recovered(void *user, const struct vfio_recovered *list, size_t n) {
    struct agent *a = user;

    for (size_t i = 0; i < n; i++)
        g_string_append_printf(a->recovered, "%s %s %s\n", list[i].owner, vfio_state_to_str(list[i].state),
                               list[i].reason);
    agent_note(a, NULL);
}

/* Runs until so many answers have come. */
static inline void agent_wait(struct agent *a, int n_answers) {
    while (a->n_answers < n_answers)
        g_assert_true(uv_run(&a->loop, UV_RUN_ONCE) != 0 || a->n_answers >= n_answers);
}

static inline void agent_recover(struct agent *a) {
    int before = a->n_answers;

    vfio_switcher_recover(a->s, agent_on_recovered, a);
    g_assert_cmpint(a->n_answers, ==, before);
    agent_wait(a, before + 1);
}

static inline struct agent *agent_new(const char *root) {
    struct agent *a = agent_new_with(root, &(struct vfio_switcher_config){0});

    agent_recover(a);
    return a;
}

/* `cards` separated by ' '. */
static inline void agent_bind(struct agent *a, const char *owner, const char *cards) {
    g_auto(GStrv) list = g_strsplit(cards, " ", -1);
    int before = a->n_answers;

    vfio_bind(a->s, owner, (const char *const *)list, g_strv_length(list), agent_on_bound, a);
    g_assert_cmpint(a->n_answers, ==, before);
    agent_wait(a, before + 1);
}

static inline void agent_give_back(struct agent *a, const char *owner) {
    int before = a->n_answers;

    vfio_give_back(a->s, owner, agent_on_given_back, a);
    g_assert_cmpint(a->n_answers, ==, before);
    agent_wait(a, before + 1);
}

/* "nvidia snd_hda_intel xhci_hcd -", "!" for a function with an override, "gone" for one that is not there. */
static inline char *tree_drivers(const char *root, const char *slot) {
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(tree_machine); i++) {
        const char *address = tree_machine[i].address;
        char driver[GPU_DRIVER_MAX_BYTES + 1];

        if (!g_str_has_prefix(address, slot))
            continue;
        if (vfio_pci_driver(root, address, driver)) {
            g_autofree char *override = vfio_pci_override(root, address);
            g_string_append_printf(text, "%s%s%s", text->len ? " " : "", driver[0] ? driver : "-",
                                   override[0] ? "!" : "");
        } else {
            g_string_append_printf(text, "%sgone", text->len ? " " : "");
        }
    }
    return g_string_free(text, FALSE);
}

#define assert_drivers(root, slot, wanted)                 \
    do {                                                   \
        g_autofree char *found = tree_drivers(root, slot); \
        g_assert_cmpstr(found, ==, wanted);                \
    } while (0)
#define HOME "nvidia snd_hda_intel xhci_hcd -"
#define AWAY "vfio-pci! vfio-pci! vfio-pci! vfio-pci!"
#define CARD "0000:01:00.0"

static inline void tree_script(const char *root, const char *rules) { tree_put(root, "script", rules, -1); }

static inline bool has_journal(const struct agent *a, const char *owner) {
    g_autofree char *path = vfio_journal_path(a->journals, owner);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}
