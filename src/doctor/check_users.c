/* Who has the cards open outside of what is granted. */
#include <string.h>
#include <sys/sysmacros.h>

#include "doctor/checks.h"
#include "doctor/doctor_case.h"

enum { DRM_MAJOR_NUMBER = 226 };

/* Host services that keep nodes of idle cards open: no use of a card. Names as /proc/PID/comm cuts them. */
static const char *const services[] = {"nvidia-persiste", "nv-hostengine", "dcgm-exporter",   "nvidia-powerd",
                                       "nvidia-smi",      "nvtop",         "nv-fabricmanage", "kohakuriver"};
/* Those of them that watch, and keep each card they watch from being given to a virtual machine. */
static const char *const monitors[] = {"nv-hostengine", "dcgm-exporter", "nvidia-smi", "nvtop",
                                       "nvitop",        "gpustat",       "netdata",    "nvidia_gpu_expo",
                                       "telegraf",      "node_exporter"};

static bool is_among(const char *comm, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(comm, names[i]) == 0)
            return true;
    return false;
}

static bool has_major(const struct doctor_proc *proc, unsigned number) {
    for (guint i = 0; i < proc->nodes->len; i++)
        if (major(g_array_index(proc->nodes, dev_t, i)) == number)
            return true;
    return false;
}

/* "pid 4711 python3 (session-3.scope) has /dev/nvidia0 /dev/nvidiactl" */
static char *describe(const struct doctor_proc *proc) {
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "pid %d %s (%s) has", (int)proc->pid, proc->comm, proc->unit);
    for (guint i = 0; i < proc->nodes->len && i < 16; i++) {
        dev_t node = g_array_index(proc->nodes, dev_t, i);
        unsigned n = minor(node);

        if (major(node) == DRM_MAJOR_NUMBER)
            g_string_append_printf(text, n >= 128 ? " /dev/dri/renderD%u" : " /dev/dri/card%u", n);
        else if (n == NVIDIACTL_MINOR)
            g_string_append(text, " /dev/nvidiactl");
        else if (n == 254)
            g_string_append(text, " /dev/nvidia-modeset");
        else
            g_string_append_printf(text, " /dev/nvidia%u", n);
    }
    return g_string_free(text, FALSE);
}

static bool is_foreign(const struct doctor_proc *proc) {
    return has_major(proc, NVIDIA_MAJOR_NUMBER) && !proc->is_in_container &&
           !is_among(proc->comm, services, G_N_ELEMENTS(services)) &&
           !is_among(proc->comm, monitors, G_N_ELEMENTS(monitors));
}

void check_gpu_holders(struct doctor_case *c) {
    const GPtrArray *procs = doctor_procs(c);

    for (guint i = 0; i < procs->len; i++) {
        const struct doctor_proc *proc = g_ptr_array_index(procs, i);
        g_autofree char *text = is_foreign(proc) ? describe(proc) : NULL;
        if (!text)
            continue;
        doctor_warning(c, "%s", text);
        if (g_str_has_suffix(proc->unit, ".service"))
            doctor_fix(c, "systemctl stop %s", proc->unit);
        else
            doctor_fix(c, "kill %d", (int)proc->pid);
    }
    doctor_ok(c, "no process outside of containers has a card open");
}

void check_gpu_holder_stuck(struct doctor_case *c) {
    const GPtrArray *procs = doctor_procs(c);

    for (guint i = 0; i < procs->len; i++) {
        const struct doctor_proc *proc = g_ptr_array_index(procs, i);
        g_autofree char *text = proc->state == 'D' && has_major(proc, NVIDIA_MAJOR_NUMBER) ? describe(proc) : NULL;
        g_autofree char *where = text ? doctor_value(c, "/proc/%d/wchan", (int)proc->pid) : NULL;
        if (text)
            doctor_error(c, "%s, and waits in the kernel (state D%s%s)", text, where ? ", wchan " : "",
                         where ? where : "");
    }
    doctor_ok(c, "no process on a card waits in the kernel");
}

void check_gpu_monitors(struct doctor_case *c) {
    const GPtrArray *procs = doctor_procs(c);

    for (guint i = 0; i < procs->len; i++) {
        const struct doctor_proc *proc = g_ptr_array_index(procs, i);
        g_autofree char *text = has_major(proc, NVIDIA_MAJOR_NUMBER) &&
                                        is_among(proc->comm, monitors, G_N_ELEMENTS(monitors))
                                    ? describe(proc)
                                    : NULL;
        if (!text)
            continue;
        doctor_warning(c, "%s", text);
        if (g_str_has_suffix(proc->unit, ".service"))
            doctor_fix(c, "systemctl stop %s, before a card goes to a virtual machine", proc->unit);
    }
    doctor_ok(c, "no watcher keeps a card open");
}

/* ---- the display side ---- */

/* Numbers of the cards and render nodes that belong to NVIDIA GPUs, from their folders in sysfs. */
static GArray *drm_nodes(struct doctor_case *c) {
    const GArray *gpus = doctor_gpus(c);
    GArray *nodes = g_array_new(FALSE, FALSE, sizeof(dev_t));

    for (guint i = 0; i < gpus->len; i++) {
        const char *address = g_array_index(gpus, struct doctor_pci, i).address;
        g_autofree char *folder = g_strdup_printf("/sys/bus/pci/devices/%s/drm", address);
        g_auto(GStrv) names = doctor_root_list(c->root, folder);
        for (size_t k = 0; names && names[k]; k++) {
            g_autofree char *path = g_strconcat("/dev/dri/", names[k], NULL);
            struct doctor_stat st;
            if (doctor_root_stat(c->root, path, &st))
                g_array_append_val(nodes, st.device);
        }
    }
    return nodes;
}

static bool has_any(const struct doctor_proc *proc, const GArray *nodes) {
    for (guint i = 0; i < proc->nodes->len; i++)
        for (guint k = 0; k < nodes->len; k++)
            if (g_array_index(proc->nodes, dev_t, i) == g_array_index(nodes, dev_t, k))
                return true;
    return false;
}

void check_drm_clients(struct doctor_case *c) {
    g_autoptr(GArray) nodes = drm_nodes(c);
    const GPtrArray *procs;

    if (nodes->len == 0) {
        doctor_ok(c, "no GPU has a DRM node");
        return;
    }
    procs = doctor_procs(c);
    for (guint i = 0; i < procs->len; i++) {
        const struct doctor_proc *proc = g_ptr_array_index(procs, i);
        g_autofree char *text = has_any(proc, nodes) && !proc->is_in_container ? describe(proc) : NULL;
        if (!text)
            continue;
        doctor_warning(c, "%s", text);
        if (g_str_has_suffix(proc->unit, ".service"))
            doctor_fix(c, "systemctl disable --now %s", proc->unit);
    }
    doctor_ok(c, "no process has a DRM node of a GPU open");
}
