/* Docker, and how GPUs get into its containers. */
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "doctor/cdi_files.h"
#include "doctor/checks.h"
#include "doctor/doctor_case.h"

#define TOOLKIT_CONFIG "/etc/nvidia-container-runtime/config.toml"
#define TOOLKIT_FLOOR "1.17.8"

/* ---- what systemd and runc know of the cards ---- */

static bool has_char_link(struct doctor_case *c, const char *node) {
    struct doctor_stat st;

    return !doctor_root_stat(c->root, node, &st) || !S_ISCHR(st.mode) ||
           doctor_has(c, "/dev/char/%u:%u", major(st.device), minor(st.device));
}

void check_dev_char_links(struct doctor_case *c) {
    static const char *const others[] = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
                                         "/dev/nvidia-modeset"};
    const GArray *cards = doctor_cards(c);
    g_autoptr(GPtrArray) missing = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *names = NULL;

    if (!doctor_docker(c)->is_systemd_cgroup) {
        doctor_skip(c, "Docker's cgroup driver is cgroupfs");
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
        if (!has_char_link(c, others[i]))
            g_ptr_array_add(missing, g_strdup(others[i]));
    for (guint i = 0; i < cards->len; i++) {
        g_autofree char *node = g_strdup_printf("/dev/nvidia%d", g_array_index(cards, struct doctor_card, i).minor);
        if (!has_char_link(c, node))
            g_ptr_array_add(missing, g_steal_pointer(&node));
    }
    g_ptr_array_add(missing, NULL);
    names = g_strjoinv(" ", (char **)missing->pdata);
    if (names[0])
        doctor_warning(c, "/dev/char has no link to %s", names);
    else
        doctor_ok(c, "/dev/char has a link to each node");
}

void check_daemon_reload(struct doctor_case *c) {
    const struct doctor_docker *docker = doctor_docker(c);
    const char *injection = doctor_runner_setting(c, "gpu_injection");
    g_autofree char *spec = cdi_first_file(c);

    if (!docker->is_systemd_cgroup)
        doctor_ok(c, "Docker's cgroup driver is cgroupfs (%s)", docker->said_by);
    else if (strcmp(injection, "nvidia") == 0)
        doctor_warning(c,
                       "cgroup driver systemd (%s), and gpu_injection = nvidia in /etc/kohakuriver/runner.conf "
                       "puts cards in by a hook that systemd does not know of",
                       docker->said_by);
    else if (docker->is_cdi_off)
        doctor_warning(c,
                       "cgroup driver systemd (%s), and features.cdi is false in /etc/docker/daemon.json, so that "
                       "cards come in by a hook that systemd does not know of",
                       docker->said_by);
    else if (!spec)
        doctor_warning(c,
                       "cgroup driver systemd (%s), and no CDI specification in /etc/cdi or /var/run/cdi, so that "
                       "cards come in by a hook that systemd does not know of",
                       docker->said_by);
    else
        doctor_ok(c, "cgroup driver systemd (%s); cards come in by CDI (%s)", docker->said_by, spec);
    if (c->outcome == DOCTOR_WARNING && (docker->is_cdi_off || strcmp(injection, "nvidia") == 0))
        doctor_fix(c, "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml; set features.cdi true in "
                      "/etc/docker/daemon.json and gpu_injection = auto in /etc/kohakuriver/runner.conf");
}

void check_docker_config(struct doctor_case *c) {
    const struct doctor_docker *docker = doctor_docker(c);

    if (docker->mistake)
        doctor_error(c, "/etc/docker/daemon.json: %s", docker->mistake);
    else
        doctor_ok(c, "/etc/docker/daemon.json can be read; cgroup driver %s (%s)",
                  docker->is_systemd_cgroup ? "systemd" : "cgroupfs", docker->said_by);
}

void check_live_restore(struct doctor_case *c) {
    const struct doctor_docker *docker = doctor_docker(c);

    if (docker->mistake)
        doctor_unknown(c, "/etc/docker/daemon.json: %s", docker->mistake);
    else if (docker->has_live_restore)
        doctor_ok(c, "live-restore is on");
    else
        doctor_warning(c, "live-restore is not set in /etc/docker/daemon.json: a restart of Docker ends each task");
}

/* ---- NVIDIA's toolkit ---- */

/* A setting of the toolkit's file: its last value that is no comment; g_free, NULL when it is not set. */
static char *toolkit_value(struct doctor_case *c, const char *name) {
    g_autofree char *text = doctor_root_read(c->root, TOOLKIT_CONFIG, DOCTOR_READ_MAX_BYTES);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    char *value = NULL;

    for (size_t i = 0; lines[i]; i++) {
        const char *line = g_strstrip(lines[i]), *rest;

        if (!g_str_has_prefix(line, name))
            continue;
        rest = line + strlen(name);
        rest += strspn(rest, " \t");
        if (*rest != '=')
            continue;
        rest += 1 + strspn(rest + 1, " \t\"");
        g_free(value);
        value = g_strndup(rest, strcspn(rest, " \t\"#"));
    }
    return value;
}

void check_default_runtime(struct doctor_case *c) {
    const struct doctor_docker *docker = doctor_docker(c);
    g_autofree char *accepts = toolkit_value(c, "accept-nvidia-visible-devices-envvar-when-unprivileged");

    if (!docker->default_runtime || strcmp(docker->default_runtime, "nvidia") != 0)
        doctor_ok(c, "default runtime: %s", docker->default_runtime ? docker->default_runtime : "runc");
    else if (accepts && strcmp(accepts, "false") == 0)
        doctor_ok(c, "nvidia is the default runtime, and " TOOLKIT_CONFIG " lets it pass over the variable");
    else
        doctor_warning(
            c,
            "nvidia is the default runtime, and accept-nvidia-visible-devices-envvar-when-unprivileged is %s "
            "in " TOOLKIT_CONFIG,
            accepts ? accepts : "not set (true)");
}

static char *toolkit_version(struct doctor_case *c, const char **ret_source) {
    static const char *const packages[] = {"nvidia-container-toolkit-base", "nvidia-container-toolkit"};
    static const char *const ask[] = {"nvidia-ctk", "--version", NULL};
    g_autofree char *said = NULL;
    bool is_held;

    for (size_t i = 0; i < G_N_ELEMENTS(packages); i++) {
        g_autofree char *version = doctor_package(c, packages[i], &is_held);
        *ret_source = packages[i];
        if (version)
            return g_steal_pointer(&version);
    }
    *ret_source = "nvidia-ctk --version";
    said = doctor_root_ask(c->root, ask);
    return said ? doctor_version_after(said, "version ") : NULL;
}

void check_toolkit_version(struct doctor_case *c) {
    const char *source;
    g_autofree char *version = toolkit_version(c, &source);

    if (!version && !doctor_has(c, "/usr/bin/nvidia-container-runtime-hook") && !doctor_has(c, "/usr/bin/nvidia-ctk"))
        doctor_skip(c, "NVIDIA's container toolkit is not installed");
    else if (!version)
        doctor_unknown(c, "NVIDIA's container toolkit is installed, its version is not to be had");
    else if (doctor_version_compare(version, "1.16.2") < 0)
        doctor_error(c, "toolkit %s (%s): CVE-2024-0132 (before 1.16.2) and CVE-2025-23266 (before " TOOLKIT_FLOOR ")",
                     version, source);
    else if (doctor_version_compare(version, TOOLKIT_FLOOR) < 0)
        doctor_error(c, "toolkit %s (%s): CVE-2025-23266 (before " TOOLKIT_FLOOR ")", version, source);
    else
        doctor_ok(c, "toolkit %s (%s)", version, source);
}

void check_toolkit_no_cgroups(struct doctor_case *c) {
    g_autofree char *value = toolkit_value(c, "no-cgroups");

    if (value && strcmp(value, "true") == 0)
        doctor_error(c, "no-cgroups = true in " TOOLKIT_CONFIG ", which is for rootless engines only");
    else
        doctor_ok(c, "no-cgroups is %s", value ? value : "not set");
}
