/* GPUs, the driver that is loaded and the one on disk. */
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "doctor/checks.h"
#include "doctor/doctor_case.h"

static const struct doctor_pci *gpu_at(const GArray *gpus, guint i) {
    return &g_array_index(gpus, struct doctor_pci, i);
}

void check_gpu_driver(struct doctor_case *c) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++) {
        const struct doctor_pci *gpu = gpu_at(gpus, i);
        if (!gpu->driver[0]) {
            doctor_error(c, "GPU %s has no driver (/sys/bus/pci/devices/%s/driver is not there)", gpu->address,
                         gpu->address);
            if (gpu->override[0] && strcmp(gpu->override, "nvidia") != 0)
                doctor_fix(c, "modprobe %s; echo %s > /sys/bus/pci/drivers_probe", gpu->override, gpu->address);
        }
    }
    doctor_ok(c, "%u GPU%s, each with a driver", gpus->len, gpus->len == 1 ? "" : "s");
}

void check_gpu_foreign_driver(struct doctor_case *c) {
    const GArray *gpus = doctor_gpus(c);

    for (guint i = 0; i < gpus->len; i++) {
        const struct doctor_pci *gpu = gpu_at(gpus, i);
        if (gpu->driver[0] && strcmp(gpu->driver, "nvidia") != 0 && strcmp(gpu->driver, "vfio-pci") != 0)
            doctor_error(c, "GPU %s is bound to %s", gpu->address, gpu->driver);
    }
    doctor_ok(c, "no GPU is bound to anything but nvidia or vfio-pci");
}

static const struct doctor_card *card_of(struct doctor_case *c, const char *address) {
    const GArray *cards = doctor_cards(c);

    for (guint i = 0; i < cards->len; i++) {
        const struct doctor_card *card = &g_array_index(cards, struct doctor_card, i);
        if (strcmp(card->address, address) == 0)
            return card;
    }
    return NULL;
}

void check_gpu_not_initialised(struct doctor_case *c) {
    const GArray *gpus = doctor_gpus(c);
    guint bound = 0;

    for (guint i = 0; i < gpus->len; i++) {
        const struct doctor_pci *gpu = gpu_at(gpus, i);
        if (strcmp(gpu->driver, "nvidia") != 0)
            continue;
        bound++;
        if (!card_of(c, gpu->address))
            doctor_error(c, "GPU %s is bound to nvidia and is not in /proc/driver/nvidia/gpus", gpu->address);
    }
    doctor_ok(c, "/proc/driver/nvidia/gpus has all %u", bound);
}

/* ---- versions ---- */

static const char *const library_folders[] = {"/usr/lib/x86_64-linux-gnu",
                                              "/usr/lib/aarch64-linux-gnu",
                                              "/usr/lib64",
                                              "/usr/lib/x86_64-linux-gnu/nvidia/current",
                                              "/usr/lib/aarch64-linux-gnu/nvidia/current",
                                              "/usr/local/lib",
                                              "/usr/lib"};

static char *join(const char *folder, const char *target) {
    return target[0] == '/' ? g_strdup(target) : g_build_filename(folder, target, NULL);
}

/* Follows libnvidia-ml.so.1 to the file that carries the version in its name. NULL when there is none. */
static char *library_file(struct doctor_case *c, const char *folder) {
    char *path = g_build_filename(folder, "libnvidia-ml.so.1", NULL);
    char *target;

    for (int hops = 0; hops < 10 && (target = doctor_root_link(c->root, path)); hops++) {
        g_autofree char *at = g_path_get_dirname(path);
        g_free(path);
        path = join(at, target);
        g_free(target);
    }
    if (doctor_has(c, "%s", path))
        return path;
    g_free(path);
    return NULL;
}

static char *find_library(struct doctor_case *c) {
    for (size_t i = 0; i < G_N_ELEMENTS(library_folders); i++) {
        char *path = library_file(c, library_folders[i]);
        if (path)
            return path;
    }
    return NULL;
}

char *doctor_library_version(struct doctor_case *c) {
    g_autofree char *path = find_library(c);

    return path ? doctor_version_after(path, "libnvidia-ml.so.") : NULL;
}

void check_driver_library(struct doctor_case *c) {
    const char *loaded = doctor_driver_version(c);
    g_autofree char *path = find_library(c), *version = path ? doctor_version_after(path, "libnvidia-ml.so.") : NULL;

    if (!loaded[0]) {
        doctor_unknown(c, "no version in /proc/driver/nvidia/version");
    } else if (!path) {
        doctor_error(c, "driver %s is loaded, and there is no libnvidia-ml.so.1 in %s and its like", loaded,
                     library_folders[0]);
        doctor_fix(c, "apt install libnvidia-compute-%d (or your distribution's package of %s)",
                   (int)g_ascii_strtoll(loaded, NULL, 10), loaded);
    } else if (!version || !strchr(version, '.')) {
        doctor_unknown(c, "%s carries no version in its name", path);
    } else if (doctor_version_compare(loaded, version) != 0) {
        doctor_error(c, "loaded is %s (/proc/driver/nvidia/version), on disk is %s (%s)", loaded, version, path);
    } else {
        doctor_ok(c, "%s, loaded and in %s", loaded, path);
    }
}

/* Folders of /var/lib/dkms/nvidia that are versions, and not the loaded one. */
static void look_at_dkms(struct doctor_case *c, const char *loaded) {
    g_auto(GStrv) names = doctor_root_list(c->root, "/var/lib/dkms/nvidia");

    for (size_t i = 0; names && names[i]; i++)
        if (g_ascii_isdigit(names[i][0]) && doctor_version_compare(names[i], loaded) > 0)
            doctor_warning(c, "loaded is %s, and /var/lib/dkms/nvidia/%s waits for the next boot", loaded, names[i]);
}

/* A kernel that is installed, newer or older, for which there is no nvidia module. */
static bool has_module(struct doctor_case *c, const char *kernel) {
    static const char *const places[] = {"updates/dkms",
                                         "extra",
                                         "updates",
                                         "kernel/drivers/video",
                                         "kernel/nvidia",
                                         "weak-updates",
                                         "kernel/drivers/video/nvidia"};

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *folder = g_strdup_printf("/lib/modules/%s/%s", kernel, places[i]);
        g_auto(GStrv) names = doctor_root_list(c->root, folder);

        for (size_t k = 0; names && names[k]; k++)
            if (g_str_has_prefix(names[k], "nvidia"))
                return true;
    }
    return doctor_has(c, "/lib/modules/%s/kernel/nvidia-%d", kernel,
                      (int)g_ascii_strtoll(doctor_driver_version(c), NULL, 10));
}

/* Only where the running kernel's module is where we look can its absence for another one be told. */
static void look_at_kernels(struct doctor_case *c) {
    g_autofree char *running = doctor_value(c, "/proc/sys/kernel/osrelease");
    g_auto(GStrv) kernels = doctor_root_list(c->root, "/boot");

    if (!running || !has_module(c, running))
        return;
    for (size_t i = 0; kernels && kernels[i]; i++) {
        const char *kernel = kernels[i] + strlen("vmlinuz-");
        if (!g_str_has_prefix(kernels[i], "vmlinuz-") || strcmp(kernel, running) == 0 || strstr(kernel, "rescue") ||
            has_module(c, kernel))
            continue;
        doctor_warning(c, "kernel %s is installed and has no nvidia module in /lib/modules/%s", kernel, kernel);
        doctor_fix(c, "apt install linux-headers-%s; dkms autoinstall -k %s", kernel, kernel);
    }
}

void check_driver_upgrade_pending(struct doctor_case *c) {
    const char *loaded = doctor_driver_version(c);

    if (!loaded[0]) {
        doctor_unknown(c, "no version in /proc/driver/nvidia/version");
        return;
    }
    look_at_dkms(c, loaded);
    look_at_kernels(c);
    doctor_ok(c, "no other driver waits for the next boot");
}

/* ---- upgrades nobody asked for ---- */

/* Without comments and blank space, so that settings can be found as text: "//" and "#" to the end of the line. */
static void add_apt_text(GString *all, const char *text) {
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (size_t i = 0; lines[i]; i++) {
        char *comment = strstr(lines[i], "//");

        if (comment && (comment == lines[i] || comment[-1] != ':'))
            *comment = '\0';
        if (g_strstrip(lines[i])[0] != '#')
            g_string_append_printf(all, "%s\n", lines[i]);
    }
}

static char *apt_config(struct doctor_case *c) {
    GString *all = g_string_new(NULL);
    g_auto(GStrv) names = doctor_root_list(c->root, "/etc/apt/apt.conf.d");
    g_autofree char *main_file = doctor_value(c, "/etc/apt/apt.conf");

    for (size_t i = 0; names && names[i]; i++) {
        g_autofree char *text = strchr(names[i], '.') && !g_str_has_suffix(names[i], ".conf")
                                    ? NULL
                                    : doctor_value(c, "/etc/apt/apt.conf.d/%s", names[i]);
        add_apt_text(all, text ? text : "");
    }
    add_apt_text(all, main_file ? main_file : "");
    return g_string_free(all, FALSE);
}

/* The last value of a setting such as `APT::Periodic::Unattended-Upgrade "1";`; g_free, NULL when it is not set. */
static char *apt_value(const char *config, const char *name) {
    char *value = NULL;

    for (const char *at = config; (at = strstr(at, name)); at++) {
        const char *open = at + strlen(name);

        open += strspn(open, " \t");
        if (*open != '"')
            continue;
        g_free(value);
        value = g_strndup(open + 1, strcspn(open + 1, "\"\n"));
    }
    return value;
}

static bool apt_upgrades_alone(const char *config) {
    g_autofree char *on = apt_value(config, "APT::Periodic::Unattended-Upgrade");
    g_autofree char *enabled = apt_value(config, "APT::Periodic::Enable");

    return on && strcmp(on, "0") != 0 && (!enabled || strcmp(enabled, "0") != 0);
}

/* The blacklist's patterns are regular expressions matched at the start of a package's name. */
static bool apt_leaves_out(const char *config, const char *package) {
    const char *at = config, *end;

    while ((at = strstr(at, "Unattended-Upgrade::Package-Blacklist"))) {
        end = strchr(at, '}');
        while (at && *at && *at != ';' && (!end || at < end)) {
            const char *open = strchr(at, '"');
            g_autofree char *pattern = open && (!end || open < end) ? g_strndup(open + 1, strcspn(open + 1, "\"\n"))
                                                                    : NULL;

            if (!pattern)
                break;
            if (g_regex_match_simple(pattern, package, 0, G_REGEX_MATCH_ANCHORED))
                return true;
            at = open + 1 + strlen(pattern);
            at += *at == '"';
            at += strspn(at, "; \t\n");
        }
        at = end ? end : at + 1;
    }
    return false;
}

/* Packages of the driver that apt would upgrade by itself; g_free, "" for none. */
static char *apt_at_risk(struct doctor_case *c, const char *config) {
    static const char *const prefixes[] = {"nvidia-driver",     "nvidia-headless", "nvidia-kernel", "nvidia-dkms",
                                           "libnvidia-compute", "libnvidia-ml",    "libcuda1"};
    GString *names = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        g_autofree char *some = doctor_packages_like(c, prefixes[i], false);
        g_auto(GStrv) each = g_strsplit(some, " ", -1);
        for (size_t k = 0; each[k] && each[k][0]; k++)
            if (!apt_leaves_out(config, each[k]))
                g_string_append_printf(names, "%s%s", names->len ? " " : "", each[k]);
    }
    return g_string_free(names, FALSE);
}

static bool look_at_apt(struct doctor_case *c) {
    g_autofree char *config = apt_config(c);
    g_autofree char *names = NULL;

    if (!apt_upgrades_alone(config))
        return false;
    names = apt_at_risk(c, config);
    if (!names[0])
        return true;
    doctor_warning(c, "APT::Periodic::Unattended-Upgrade is on, and neither held nor in Package-Blacklist: %s", names);
    doctor_fix(c, "apt-mark hold %s", names);
    return true;
}

static bool dnf_leaves_out(struct doctor_case *c) {
    static const char *const files[] = {"/etc/dnf/dnf.conf", "/etc/dnf/automatic.conf"};
    g_autofree char *locks = doctor_value(c, "/etc/dnf/plugins/versionlock.list");

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *text = doctor_value(c, "%s", files[i]);
        g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
        for (size_t k = 0; lines[k]; k++)
            if (g_str_has_prefix(g_strstrip(lines[k]), "exclude") && strstr(lines[k], "nvidia"))
                return true;
    }
    return locks && strstr(locks, "nvidia");
}

/* dnf-automatic-install.timer installs whatever its file says; dnf-automatic.timer does with apply_updates. */
static const char *dnf_upgrades_alone(struct doctor_case *c) {
    static const char wants[] = "/etc/systemd/system/timers.target.wants";
    g_autofree char *text = doctor_value(c, "/etc/dnf/automatic.conf");
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *applies = NULL;
    struct doctor_stat st;
    g_autofree char *target = NULL;

    if (doctor_has(c, "%s/dnf-automatic-install.timer", wants))
        return "dnf-automatic-install.timer is enabled";
    target = doctor_root_link(c->root, "/etc/systemd/system/timers.target.wants/dnf-automatic.timer");
    if (!target && !doctor_root_stat(c->root, "/etc/systemd/system/timers.target.wants/dnf-automatic.timer", &st))
        return NULL;
    if (text)
        g_key_file_load_from_data(file, text, (gsize)-1, G_KEY_FILE_NONE, NULL);
    applies = g_key_file_get_string(file, "commands", "apply_updates", NULL);
    return applies && (g_ascii_strcasecmp(applies, "yes") == 0 || g_ascii_strcasecmp(applies, "true") == 0)
               ? "dnf-automatic.timer is enabled with apply_updates in /etc/dnf/automatic.conf"
               : NULL;
}

void check_driver_auto_upgrade(struct doctor_case *c) {
    bool is_apt = look_at_apt(c);
    const char *dnf = dnf_upgrades_alone(c);

    if (dnf && !dnf_leaves_out(c)) {
        doctor_warning(c, "%s, and nothing excludes nvidia packages", dnf);
        doctor_fix(c, "dnf versionlock add 'nvidia-*' 'kmod-nvidia*' (or excludepkgs in /etc/dnf/automatic.conf)");
    }
    doctor_ok(c, "%s",
              is_apt || dnf ? "upgrades run by themselves and leave the driver out"
                            : "nothing upgrades packages by itself");
}

/* ---- persistence, nodes, fabric ---- */

void check_persistence(struct doctor_case *c) {
    const struct doctor_proc *daemon = doctor_proc_named(c, "nvidia-persiste");
    g_autofree char *cmdline = NULL;

    if (!daemon) {
        doctor_warning(c, "no nvidia-persistenced runs");
        return;
    }
    cmdline = doctor_value(c, "/usr/lib/systemd/system/nvidia-persistenced.service");
    if (cmdline && strstr(cmdline, "--no-persistence-mode") &&
        !doctor_has(c, "/etc/systemd/system/nvidia-persistenced.service") &&
        !doctor_has(c, "/etc/systemd/system/nvidia-persistenced.service.d")) {
        doctor_warning(c, "nvidia-persistenced runs with --no-persistence-mode (/usr/lib/systemd/system/"
                          "nvidia-persistenced.service)");
        doctor_fix(c, "systemctl edit nvidia-persistenced (ExecStart without --no-persistence-mode)");
        return;
    }
    doctor_ok(c, "nvidia-persistenced runs (pid %d)", (int)daemon->pid);
}

/* The major number that /proc/devices gives a name; -1: none. */
static int major_of(struct doctor_case *c, const char *name) {
    g_autofree char *text = doctor_value(c, "/proc/devices");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

    for (size_t i = 0; lines[i] && strncmp(lines[i], "Block", 5) != 0; i++) {
        char *end;
        gint64 number = g_ascii_strtoll(lines[i], &end, 10);
        if (end != lines[i] && strcmp(g_strchug(end), name) == 0)
            return (int)number;
    }
    return -1;
}

void check_uvm_node(struct doctor_case *c) {
    int number = major_of(c, "nvidia-uvm");
    struct doctor_stat st;

    if (number < 0)
        doctor_warning(c, "the module nvidia_uvm is not loaded (/proc/devices has no nvidia-uvm)");
    else if (!doctor_root_stat(c->root, "/dev/nvidia-uvm", &st))
        doctor_warning(c, "/dev/nvidia-uvm is not there; /proc/devices says major %d", number);
    else if (!S_ISCHR(st.mode) || (int)major(st.device) != number)
        doctor_error(c, "/dev/nvidia-uvm has major %u, /proc/devices says %d", major(st.device), number);
    else
        doctor_ok(c, "/dev/nvidia-uvm is %d:0", number);
}

static bool check_node(struct doctor_case *c, const char *path, unsigned minor_number, const char *of) {
    struct doctor_stat st;

    if (!doctor_root_stat(c->root, path, &st))
        doctor_error(c, "%s of %s is not there", path, of);
    else if (!S_ISCHR(st.mode))
        doctor_error(c, "%s of %s is not a device", path, of);
    else if (st.device != makedev(NVIDIA_MAJOR_NUMBER, minor_number))
        doctor_error(c, "%s is %u:%u, the driver gave %s %d:%u", path, major(st.device), minor(st.device), of,
                     NVIDIA_MAJOR_NUMBER, minor_number);
    else
        return true;
    return false;
}

void check_device_nodes(struct doctor_case *c) {
    const GArray *cards = doctor_cards(c);

    check_node(c, "/dev/nvidiactl", NVIDIACTL_MINOR, "the driver");
    for (guint i = 0; i < cards->len; i++) {
        const struct doctor_card *card = &g_array_index(cards, struct doctor_card, i);
        g_autofree char *path = g_strdup_printf("/dev/nvidia%d", card->minor);
        if (card->minor >= 0)
            check_node(c, path, (unsigned)card->minor, card->address);
    }
    doctor_ok(c, "/dev/nvidiactl and the nodes of %u cards are what the driver says", cards->len);
}

static guint count_nvswitches(struct doctor_case *c) {
    const GArray *pci = doctor_pci(c);
    guint n = 0;

    for (guint i = 0; i < pci->len; i++) {
        const struct doctor_pci *device = &g_array_index(pci, struct doctor_pci, i);
        n += device->vendor == PCI_VENDOR_NVIDIA && device->class_code == 0x0680;
    }
    return n;
}

/* The manager must be of the driver's very version. False: says so. */
static bool fabric_manager_fits(struct doctor_case *c) {
    const char *loaded = doctor_driver_version(c);
    g_autofree char *name = g_strdup_printf("nvidia-fabricmanager-%d", (int)g_ascii_strtoll(loaded, NULL, 10));
    bool is_held;
    g_autofree char *version = doctor_package(c, name, &is_held);

    if (!version || !loaded[0] || doctor_version_compare(version, loaded) == 0)
        return true;
    doctor_error(c, "%s is %s, the loaded driver is %s", name, version, loaded);
    doctor_fix(c, "apt install %s=%s-1; systemctl restart nvidia-fabricmanager", name, loaded);
    return false;
}

void check_fabric_manager(struct doctor_case *c) {
    guint n_switches = count_nvswitches(c);

    if (n_switches == 0)
        doctor_skip(c, "no NVSwitch on the PCI bus");
    else if (!doctor_proc_named(c, "nv-fabricmanage"))
        doctor_error(c, "%u NVSwitch%s on the PCI bus, and no nv-fabricmanager runs", n_switches,
                     n_switches == 1 ? "" : "es");
    else if (fabric_manager_fits(c))
        doctor_ok(c, "%u NVSwitch%s, nv-fabricmanager runs", n_switches, n_switches == 1 ? "" : "es");
}
