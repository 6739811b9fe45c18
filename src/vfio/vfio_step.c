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

/* All that stands against it, in one line. */
static void add_refusals(GString *text, const struct vfio_card *card, bool is_strict) {
    for (guint i = 0; i < card->obstacles->len; i++) {
        const struct vfio_obstacle *o = card->obstacles->pdata[i];

        if (vfio_obstacle_blocks(o->id) || (is_strict && o->id == VFIO_OBSTACLE_PERSISTENCE))
            g_string_append_printf(text, "%s%s", text->len ? "; " : "", o->text);
    }
}

static int step_preflight(int argc, char **argv) {
    bool is_strict = argc > 0 && strcmp(argv[0], "strict") == 0;
    g_autoptr(GString) refusal = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GArray) all = NULL;
    json_t *gpus = json_array();

    argc -= is_strict;
    argv += is_strict;
    if (argc < 2) {
        json_decref(gpus);
        return VFIO_STEP_USAGE;
    }
    all = vfio_pci_scan(argv[0], &error);
    if (error)
        g_string_append(refusal, error->message);
    for (int i = 1; all && i < argc; i++) {
        struct vfio_card *card = vfio_card_look(argv[0], all, argv[i], argv + 1);

        add_refusals(refusal, card, is_strict);
        json_array_append_new(gpus, vfio_hold_gpu_of_card(argv[0], card));
        vfio_card_free(card);
    }
    if (refusal->len == 0)
        return print(json_pack("{s:o}", "gpus", gpus));
    json_decref(gpus);
    return print(json_pack("{s:s}", "refusal", refusal->str));
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
