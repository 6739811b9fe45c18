#include "vfio/vfio_step.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "vfio/vfio_card.h"
#include "vfio/vfio_check.h"
#include "vfio/vfio_hold.h"

static int print(json_t *json) {
    g_autofree char *text = jsonx_to_str(json);

    json_decref(json);
    return puts(text) < 0 || fflush(stdout) < 0 ? errno : 0;
}

/* One write call: sysfs takes a value as a whole. O_TRUNC is nothing to sysfs, and lets a plain file stand in for it. */
static int step_write(int argc, char **argv) {
    _cleanup_fd_ int fd = -1;
    ssize_t n;

    if (argc != 2)
        return VFIO_STEP_USAGE;
    fd = open(argv[0], O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return errno;
    n = write(fd, argv[1], strlen(argv[1]));
    return n < 0 ? errno : n == (ssize_t)strlen(argv[1]) ? 0 : EIO;
}

/* What is left to others at first: to nvidia-persistenced, when it is told about the card, and to the site's hook. */
struct mode {
    const char *name;
    bool lets_persistence, lets_dcgm;
};

static bool is_against(const struct vfio_obstacle *o, const struct mode *mode) {
    if (o->id == VFIO_OBSTACLE_PERSISTENCE)
        return !mode->lets_persistence;
    return vfio_obstacle_blocks(o->id) && !(o->id == VFIO_OBSTACLE_DCGM && mode->lets_dcgm);
}

/* All that stands against it, in one line. */
static void add_refusals(GString *text, const struct vfio_card *card, const struct mode *mode) {
    for (guint i = 0; i < card->obstacles->len; i++) {
        const struct vfio_obstacle *o = card->obstacles->pdata[i];

        if (is_against(o, mode))
            g_string_append_printf(text, "%s%s (%s)", text->len ? "; " : "", o->text, o->fix);
    }
}

static int look_at_all(const struct mode *mode, const char *root, char **addresses) {
    g_autoptr(GString) refusal = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) all = vfio_pci_scan(root, &error);
    json_t *gpus = json_array();

    if (error)
        g_string_append(refusal, error->message);
    for (char **address = addresses; all && *address; address++) {
        struct vfio_card *card = vfio_card_look(root, all, *address, addresses);

        add_refusals(refusal, card, mode);
        json_array_append_new(gpus, vfio_hold_gpu_of_card(root, card));
        vfio_card_free(card);
    }
    if (refusal->len == 0)
        return print(json_pack("{s:o}", "gpus", gpus));
    json_decref(gpus);
    return print(json_pack("{s:s}", "refusal", refusal->str));
}

static int step_preflight(int argc, char **argv) {
    static const struct mode modes[] = {{"strict", false, false}, {"hooked", true, true}, {"", true, false}};
    const struct mode *mode = modes;

    if (argc < 1)
        return VFIO_STEP_USAGE;
    while (mode->name[0] && strcmp(mode->name, argv[0]) != 0)
        mode++;
    argc -= mode->name[0] != '\0';
    argv += mode->name[0] != '\0';
    return argc < 2 ? VFIO_STEP_USAGE : look_at_all(mode, argv[0], argv + 1);
}

static int step_config(int argc, char **argv) {
    json_t *answer = json_object();

    for (int i = 1; i < argc; i++) {
        const char *absence = vfio_pci_absence(argv[0], argv[i]);
        g_autofree char *text = absence ? g_strdup_printf("%s is %s", argv[i], absence) : NULL;

        if (text && !json_object_get(answer, "absence"))
            json_object_set_new(answer, "absence", json_string(text));
    }
    return print(answer);
}

static int step_check(int argc, char **argv) {
    return argc == 2 ? print(vfio_check(argv[0], argv[1])) : VFIO_STEP_USAGE;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} steps[] = {
    {"write", step_write},
    {"preflight", step_preflight},
    {"config", step_config},
    {"check", step_check},
};

int vfio_step_main(int argc, char **argv) {
    for (size_t i = 0; argc >= 2 && i < G_N_ELEMENTS(steps); i++)
        if (strcmp(argv[1], steps[i].name) == 0)
            return steps[i].run(argc - 2, argv + 2);
    fprintf(stderr, "kohakuriver vfio-step: for the program's own use\n");
    return VFIO_STEP_USAGE;
}
