#include "runner/runner_config.h"

#include <string.h>
#include <sys/resource.h>

#include "base/error.h"
#include "base/units.h"
#include "engine/engine.h"
#include "model/node.h"
#include "model/target.h"
#include "vm/engine_qemu.h"

enum { MINUTE_MS = 60 * 1000, HOUR_MS = 60 * MINUTE_MS };
#define GIB ((int64_t)1 << 30)
#define MIB ((int64_t)1 << 20)

/* clang-format off */
const struct config_key runner_config_keys[] = {
    {"node_name", CONFIG_STRING, "", 0, 0, NULL, "this node's name in the cluster; empty: the machine's host name"},
    {"host_url", CONFIG_STRING, "http://127.0.0.1:8000", 0, 0, NULL, "where the host listens"},
    {"state_dir", CONFIG_PATH, "/var/lib/kohakuriver/runner", 0, 0, NULL, "leases, credential, logs; one runner per folder"},
    {"join_token_file", CONFIG_PATH, "/etc/kohakuriver/join-token", 0, 0, NULL, "the cluster's join token, as on the host"},
    {"engine", CONFIG_CHOICE, "docker", 0, 0, "docker|simulated", "container engine; simulated runs nothing"},
    {"docker_socket", CONFIG_PATH, "/var/run/docker.sock", 0, 0, NULL, "UNIX socket of the Docker Engine"},
    {"sysfs_root", CONFIG_PATH, "/", 0, 0, NULL, "root of the sysfs to look for GPUs and NUMA nodes in (for tests)"},
    {"nvml_library", CONFIG_STRING, "libnvidia-ml.so.1", 0, 0, NULL, "the NVIDIA management library, a name or a path"},
    {"gpu_interval_ms", CONFIG_INT, "1000", 100, HOUR_MS, NULL, "between two looks at the GPUs: utilisation, memory, events"},
    {"gpu_slow_interval_ms", CONFIG_INT, "5000", 100, HOUR_MS, NULL, "between readings of the GPUs' power, temperature and clocks"},
    {"gpu_process_interval_ms", CONFIG_INT, "10000", 100, HOUR_MS, NULL, "between lists of the processes on the GPUs"},
    {"gpu_health_interval_ms", CONFIG_INT, "60000", 100, HOUR_MS, NULL, "between readings of ECC errors, remapped rows and PCIe links"},
    {"gpu_deadline_ms", CONFIG_INT, "10000", 100, HOUR_MS, NULL, "for one answer of the GPU driver; later is unknown"},
    {"gpu_injection", CONFIG_CHOICE, "auto", 0, 0, "auto|nvidia|cdi", "how GPUs get into containers; auto: CDI where offered"},
    {"heartbeat_ms", CONFIG_INT, "5000", 100, HOUR_MS, NULL, "between heartbeats, until the host says otherwise"},
    {"default_image", CONFIG_STRING, "", 0, 0, NULL, "for tasks that name none; empty: they are refused"},
    {"pull_policy", CONFIG_CHOICE, "missing", 0, 0, "missing|never", "whether an image that is not here is fetched"},
    {"network", CONFIG_STRING, "bridge", 0, 0, NULL, "network of the containers: bridge, host, none or a name"},
    {"working_dir", CONFIG_PATH, "", 0, 0, NULL, "of the containers; empty: as the image says"},
    {"allowed_mounts", CONFIG_LIST, "", 0, 0, NULL, "folders that tasks may mount (and all below); empty: none. The check and the mount are two steps: "
     "whoever can replace a folder below by a link in between gets past it"},
    {"shm_bytes", CONFIG_BYTES, "8G", MIB, (int64_t)1 << 50, NULL, "upper limit of /dev/shm in a container"},
    {"memlock", CONFIG_STRING, "auto", 0, 0, NULL, "lockable memory: auto, unlimited, default or a size"},
    {"stop_grace_ms", CONFIG_INT, "10000", 0, HOUR_MS, NULL, "between SIGTERM and SIGKILL"},
    {"drain_timeout_ms", CONFIG_INT, "30000", 0, HOUR_MS, NULL, "wait for a clean GPU before an end is reported as draining"},
    {"evidence_samples", CONFIG_INT, "2", 1, 100, NULL, "looks in a row that must find a GPU free before it is released"},
    {"log_max_bytes", CONFIG_BYTES, "64M", 64 * 1024, 1024 * GIB, NULL, "stored of each output stream of a task"},
    {"log_keep_tasks", CONFIG_INT, "1000", 0, 1000000, NULL, "ended tasks whose output is kept"},
    {"log_keep_bytes", CONFIG_BYTES, "4G", 0, 1024 * GIB, NULL, "of output kept of ended tasks"},
    {"vm_stop_grace_ms", CONFIG_INT, "60000", 0, HOUR_MS, NULL, "between a machine's power button and its plug"},
    {"cpus_reserved", CONFIG_INT, "0", 0, NODE_MAX_CORES, NULL, "cores that tasks cannot have"},
    {"vm_dir", CONFIG_PATH, "", 0, 0, NULL, "images, disks and machines; empty: `vms` in state_dir"},
    {"qemu_binary", CONFIG_STRING, "qemu-system-x86_64", 0, 0, NULL, "QEMU, a name or a path; 7.2 or newer"},
    {"vm_user", CONFIG_STRING, "", 0, 0, NULL, "user that QEMU runs as; empty: as the runner"},
    {"vm_cgroup", CONFIG_PATH, "", 0, 0, NULL, "folder in a cgroup 2 file system under which each machine gets a cgroup; empty: none"},
    {"vm_bridge", CONFIG_STRING, "", 0, 0, NULL, "bridge that machines with --network bridge join; empty: they are refused"},
    {"vm_nat", CONFIG_STRING, "", 0, 0, NULL, "vm_bridge is the runner's to make, with this address (as 10.88.0.1/24): machines there reach the world by the node's address; empty: it is there already"},
    {"vm_name_servers", CONFIG_LIST, "", 0, 0, NULL, "name servers of machines in that network; empty: those of the node's resolv.conf"},
    {"vm_network_restricted", CONFIG_BOOL, "false", 0, 0, NULL, "machines with user-mode network reach nothing outside; SSH from this node works"},
    {"vm_hugepages", CONFIG_PATH, "", 0, 0, NULL, "folder of a hugetlbfs for the machines' memory; empty: none"},
    {"vm_shared_dir", CONFIG_PATH, "", 0, 0, NULL, "folder that machines see as /shared; empty: none"},
    {"vm_firmware_dir", CONFIG_PATH, "/usr/share/OVMF", 0, 0, NULL, "where OVMF_CODE_4M.fd and OVMF_VARS_4M.fd are; without them machines start with SeaBIOS"},
    {"vm_mmio_window", CONFIG_BYTES, "0", 0, (int64_t)1 << 50, NULL, "address space for the memory of a machine's GPUs; 0: as much as the GPUs say"},
    {"vm_driver", CONFIG_STRING, "distribution", 0, 0, NULL, "NVIDIA driver for guests that want one: distribution, or the URL or path (in the guest) of a .run file; {version} is the node's own, {line} tesla or XFree86/Linux-x86_64 by the card"},
    {"vm_driver_sha256", CONFIG_STRING, "", 0, 0, NULL, "of that .run file, or VERSION=SUM, VERSION=SUM; without one the file is not run"},
    {"vm_ready_timeout_ms", CONFIG_INT, "900000", 0, 24 * HOUR_MS, NULL, "for a guest's first word that it is ready; later it is shown as late; 0: no limit"},
    {"vm_ready_policy", CONFIG_CHOICE, "keep", 0, 0, "keep|stop", "what becomes of a machine whose guest is late; kept ones keep their GPUs"},
    {"vm_accel", CONFIG_CHOICE, "auto", 0, 0, "auto|kvm|tcg", "how machines run: auto is kvm where a trial guest runs, else tcg (slow)"},
    {"vfio_hook", CONFIG_PATH, "", 0, 0, NULL, "program that is run as `HOOK before-bind ADDRESS` before a GPU goes to a machine and `HOOK after-give-back "
     "ADDRESS` afterwards, to make DCGM let go of it for instance; empty: none"},
    {"vfio_deadline_ms", CONFIG_INT, "10000", 100, HOUR_MS, NULL, "for one step of switching a GPU to a machine or back; later is stuck"},
    {"nvidia_smi", CONFIG_STRING, "nvidia-smi", 0, 0, NULL, "tells nvidia-persistenced to let go of one GPU, a name or a path"},
    {"log_level", CONFIG_CHOICE, "info", 0, 0, "error|warning|info|debug", "what the runner tells about itself"},
    {NULL, 0, NULL, 0, 0, NULL, NULL},
};
/* clang-format on */

char *runner_config_node_name(const struct config *config, GError **error) {
    const char *set = config_str(config, "node_name");
    const char *name = set[0] ? set : g_get_host_name();

    if (node_name_check(name, strlen(name), error))
        return g_strdup(name);
    g_prefix_error(error, set[0] ? "node_name: " : "the host name cannot be this node's name, set node_name: ");
    return NULL;
}

bool runner_config_memlock(const struct config *config, int64_t *ret_memlock, GError **error) {
    const char *text = config_str(config, "memlock");
    struct rlimit limit = {0};

    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (strcmp(text, "auto") == 0)
        *ret_memlock = limit.rlim_max == RLIM_INFINITY ? ENGINE_MEMLOCK_UNLIMITED : ENGINE_MEMLOCK_DEFAULT;
    else if (strcmp(text, "unlimited") == 0)
        *ret_memlock = ENGINE_MEMLOCK_UNLIMITED;
    else if (strcmp(text, "default") == 0)
        *ret_memlock = ENGINE_MEMLOCK_DEFAULT;
    else if (!units_bytes_from_str(text, ret_memlock, NULL))
        return kr_fail(error, USAGE, "memlock: \"%s\" is neither auto, unlimited, default nor a size", text);
    return true;
}

void runner_config_vm(const struct config *config, const char *vm_dir, const char *node, struct qemu_config *ret_vm) {
    *ret_vm = (struct qemu_config){.folder = vm_dir,
                                   .node = node,
                                   .binary = config_str(config, "qemu_binary"),
                                   .accel = config_str(config, "vm_accel"),
                                   .user = config_str(config, "vm_user"),
                                   .cgroup = config_str(config, "vm_cgroup"),
                                   .bridge = config_str(config, "vm_bridge"),
                                   .nat = config_str(config, "vm_nat"),
                                   .name_servers = config_list(config, "vm_name_servers"),
                                   .hugepages = config_str(config, "vm_hugepages"),
                                   .shared_folder = config_str(config, "vm_shared_dir"),
                                   .firmware = config_str(config, "vm_firmware_dir"),
                                   .driver = config_str(config, "vm_driver"),
                                   .driver_sha256 = config_str(config, "vm_driver_sha256"),
                                   .sysfs_root = config_str(config, "sysfs_root"),
                                   .is_restricted = config_bool(config, "vm_network_restricted"),
                                   .mmio_window_bytes = config_int(config, "vm_mmio_window")};
}

char *runner_config_vm_dir(const struct config *config) {
    const char *set = config_str(config, "vm_dir");

    return set[0] ? g_strdup(set) : g_build_filename(config_str(config, "state_dir"), "vms", NULL);
}
