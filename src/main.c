/* The table of verbs: what this program can do, with every option and text. Help, usage errors, shell completion and
 * the man page are made of it. To add a verb: a row here, its function in src/cli/cmd_*.c (see CONTRIBUTING.md). */
#include "cli/cli.h"
#include "gpu/gpu_monitor.h"
#include "host/host.h"
#include "host/host_config.h"
#include "runner/runner.h"
#include "runner/runner_config.h"
#include "vfio/vfio_step.h"
#include "vm/image_tool.h"
#include "vm/shim.h"

#define OPTION_HOST \
    { "host", 0, CLI_TEXT, "URL", NULL, "the host's address (or KOHAKURIVER_HOST; http://127.0.0.1:8000 by default)" }
#define OPTION_FORMAT \
    { "format", 'f', CLI_TEXT, "table|json", "table|json", "how to print it: a table, or the host's answer as JSON" }
#define OPTIONS_END \
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL }

static const struct cli_option submit_options[] = {
    {"target", 't', CLI_LIST, "TARGET", NULL,
     "where to run: NODE[:NUMA][::GPU[,GPU…]]; several targets make several tasks, all or none"},
    {"cores", 'c', CLI_TEXT, "NUMBER", NULL, "CPU cores to reserve, and the task's limit"},
    {"memory", 'm', CLI_TEXT, "SIZE", NULL, "memory to reserve, and the task's limit: 512M, 16G"},
    {"image", 0, CLI_TEXT, "IMAGE", NULL, "container image that the node has (default: the node's own setting)"},
    {"env", 0, CLI_LIST, "NAME[=VALUE]", NULL, "set a variable in the container; without =VALUE, as it is here"},
    {"mount", 0, CLI_LIST, "SOURCE:TARGET[:ro]", NULL, "mount a folder of the node into the container"},
    {"name", 0, CLI_TEXT, "NAME", NULL, "a name to recognise the task by"},
    {"wait", 'w', CLI_FLAG, NULL, NULL, "stay, pass its output on as it comes, exit with its exit code"},
    {"quiet", 'q', CLI_FLAG, NULL, NULL, "print the task's number alone"},
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option list_options[] = {
    {"status", 's', CLI_TEXT, "STATE", "pending|starting|running|paused|stopping|completed|failed|killed|lost",
     "only tasks in this state"},
    {"node", 'n', CLI_TEXT, "NODE", NULL, "only tasks of this node"},
    {"limit", 'l', CLI_TEXT, "NUMBER", NULL, "at most so many, newest first (default 100, at most 1000)"},
    OPTION_FORMAT,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option logs_options[] = {
    {"stderr", 0, CLI_FLAG, NULL, NULL, "its standard error instead of its standard output"},
    {"follow", 'f', CLI_FLAG, NULL, NULL, "go on as more comes, until the task is over"},
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option kill_options[] = {
    {"wait", 'w', CLI_FLAG, NULL, NULL, "stay until the tasks are over"},
    OPTION_HOST,
    OPTIONS_END,
};

#define OPTION_REASON \
    { "reason", 'r', CLI_TEXT, "TEXT", NULL, "why; shown to whoever is refused, and written to the audit log" }

static const struct cli_option wish_options[] = {OPTION_HOST, OPTIONS_END};
static const struct cli_option order_options[] = {OPTION_REASON, OPTION_HOST, OPTIONS_END};

static const struct cli_option release_options[] = {
    {"force", 0, CLI_FLAG, NULL, NULL, "give the lease up without proof; there is no other way to give one up"},
    {"yes", 'y', CLI_FLAG, NULL, NULL, "do not ask for confirmation"},
    OPTION_REASON,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option drain_options[] = {
    {"kill", 'k', CLI_FLAG, NULL, NULL, "ask the tasks that run there to end"},
    {"wait", 'w', CLI_FLAG, NULL, NULL, "stay until none is left"},
    OPTION_REASON,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option audit_options[] = {
    {"limit", 'l', CLI_TEXT, "NUMBER", NULL, "at most so many, newest first (default 100, at most 1000)"},
    OPTION_FORMAT,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option show_options[] = {OPTION_FORMAT, OPTION_HOST, OPTIONS_END};

static const struct cli_option gpu_list_options[] = {
    {"free", 0, CLI_FLAG, NULL, NULL, "free ones first"},
    {"node", 'n', CLI_TEXT, "NODE", NULL, "only those of this node"},
    {"model", 0, CLI_TEXT, "TEXT", NULL, "only those whose name contains TEXT, as in h100"},
    {"memory", 'm', CLI_TEXT, "SIZE", NULL, "only those with at least so much memory: 40G"},
    {"idle", 0, CLI_TEXT, "SPAN", NULL, "only those that somebody holds and has not used for so long: 30m, 2h"},
    OPTION_FORMAT,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option status_options[] = {
    {"verbose", 'v', CLI_FLAG, NULL, NULL,
     "every figure of each GPU, its faults, and what reading them costs the node"},
    OPTION_FORMAT,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option watch_options[] = {
    {"interval", 'i', CLI_TEXT, "SPAN", NULL, "between two looks (default 1s)"},
    {"count", 0, CLI_TEXT, "NUMBER", NULL, "end after so many looks (default: Ctrl-C ends it)"},
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option vps_create_options[] = {
    {"backend", 0, CLI_TEXT, "qemu", "qemu", "what runs it: qemu, with its GPUs passed through"},
    {"target", 't', CLI_TEXT, "TARGET", NULL, "where: NODE[:NUMA][::GPU[,GPU…]]"},
    {"name", 0, CLI_TEXT, "NAME", NULL, "its name and host name (default: one is made up)"},
    {"cores", 'c', CLI_TEXT, "NUMBER", NULL, "processors (default 1)"},
    {"vm-memory", 0, CLI_TEXT, "MIB", NULL, "memory in MiB, or a size such as 16G (default 2048)"},
    {"vm-disk", 0, CLI_TEXT, "SIZE", NULL, "size of its disk (default 20G)"},
    {"vm-image", 0, CLI_TEXT, "IMAGE", NULL,
     "image of the node that the disk begins as (default debian; `qemu image list`)"},
    {"ssh", 0, CLI_FLAG, NULL, NULL, "wait until it is on and say how to log in"},
    {"wait", 'w', CLI_FLAG, NULL, NULL, "wait until it is on"},
    {"gen-ssh-key", 0, CLI_FLAG, NULL, NULL, "make a key pair for it"},
    {"key-out-file", 0, CLI_TEXT, "FILE", NULL, "where the private key goes (default NAME.key)"},
    {"public-key-file", 0, CLI_TEXT, "FILE", NULL, "the public key that may log in (default: yours, from ~/.ssh)"},
    {"public-key-string", 0, CLI_TEXT, "KEY", NULL, "the same, as text"},
    {"user", 'u', CLI_TEXT, "LOGIN", NULL, "the login that is made in it (default ops)"},
    {"user-data", 0, CLI_TEXT, "FILE", NULL, "a cloud-init document of your own, merged after the system's"},
    {"network", 0, CLI_TEXT, "user|bridge", "user|bridge",
     "user: its own network behind the node (default); bridge: the node's bridge"},
    {"with-group", 0, CLI_FLAG, NULL, NULL, "free GPUs in the IOMMU groups of its GPUs are leased and passed along"},
    {"no-driver", 0, CLI_FLAG, NULL, NULL, "do not install the NVIDIA driver in the guest"},
    OPTION_FORMAT,
    OPTION_HOST,
    OPTIONS_END,
};

static const struct cli_option ssh_options[] = {
    {"identity", 'i', CLI_TEXT, "FILE", NULL, "the private key to log in with"},
    {"no-wait", 0, CLI_FLAG, NULL, NULL, "do not wait for a guest that is starting"},
    {"stdio", 0, CLI_FLAG, NULL, NULL, "only join standard input and output to its SSH port: for ssh's ProxyCommand"},
    OPTION_HOST,
    OPTIONS_END,
};
#define OPTION_NODE                                                                          \
    {                                                                                        \
        "node", 'n', CLI_TEXT, "NODE", NULL,                                                 \
            "look at this node, through the host; without, at the machine that this runs on" \
    }
#define OPTION_ROOT \
    { "root", 0, CLI_TEXT, "FOLDER", NULL, "look at the tree below FOLDER in place of /" }
#define OPTION_ACCEL \
    { "accel", 0, CLI_TEXT, "auto|kvm|tcg", "auto|kvm|tcg", "judge as if the runner's setting vm_accel was this" }

static const struct cli_option qemu_check_options[] = {OPTION_NODE,   OPTION_ROOT, OPTION_ACCEL,
                                                       OPTION_FORMAT, OPTION_HOST, OPTIONS_END};
static const struct cli_option acs_options[] = {OPTION_NODE, OPTION_ROOT, OPTION_ACCEL, OPTION_HOST, OPTIONS_END};

static const struct cli_option config_options[] = {
    {"config", 0, CLI_TEXT, "FILE", NULL,
     "read the settings from FILE (default: /etc/kohakuriver/host.conf, runner.conf)"},
    OPTION_FORMAT,
    OPTIONS_END,
};

static const struct cli_option doctor_options[] = {
    {"check", 'c', CLI_LIST, "ID", NULL, "only this check; may be given several times"},
    {"list", 'l', CLI_FLAG, NULL, NULL, "list the checks with what each wants, look at nothing"},
    {"vfio", 0, CLI_FLAG, NULL, NULL, "judge the node as one that hands GPUs to virtual machines"},
    {"root", 0, CLI_TEXT, "DIR", NULL,
     "look at the files below DIR (an image) or at a description of a machine (for tests)"},
    {"format", 'f', CLI_TEXT, "text|json", "text|json", "how to print it: a report, or JSON"},
    OPTIONS_END,
};

#define OPTION_RUNNER_CONFIG                                                               \
    {                                                                                      \
        "config", 0, CLI_TEXT, "FILE", NULL,                                               \
            "read the runner's settings from FILE (default: /etc/kohakuriver/runner.conf)" \
    }

static const struct cli_option image_create_options[] = {
    {"name", 0, CLI_TEXT, "NAME", NULL, "what the image is called: letters, digits and '-'"},
    {"from", 0, CLI_TEXT, "FILE|URL", NULL, "a disk image, qcow2 or raw, that stands on no other file"},
    {"debian", 0, CLI_FLAG, NULL, NULL,
     "build a small Debian with cloud-init and SSH (takes minutes; needs mmdebstrap and root)"},
    {"kernel", 0, CLI_TEXT, "FILE", NULL, "start this kernel instead of what the disk boots"},
    {"initrd", 0, CLI_TEXT, "FILE", NULL, "with --kernel: its first file system"},
    {"append", 0, CLI_TEXT, "TEXT", NULL, "with --kernel: its command line"},
    {"sha256", 0, CLI_TEXT, "SUM", NULL, "refuse what is fetched when it has another checksum"},
    OPTION_RUNNER_CONFIG,
    OPTIONS_END,
};

static const struct cli_option tool_options[] = {OPTION_FORMAT, OPTION_RUNNER_CONFIG, OPTIONS_END};

static const struct cli_option help_options[] = {
    {"man", 0, CLI_FLAG, NULL, NULL, "print the manual page, as roff"},
    OPTIONS_END,
};

static const struct cli_verb verbs[] = {
    {
        .path = "task submit",
        .takes_command = true,
        .summary = "run a command in a container, with GPUs that are its own",
        .help = "The words behind \"--\" reach the container exactly as they are; no shell reads them. A GPU is named "
                "by the "
                "number that its node gave it, see `kohakuriver node status NODE`. A GPU that somebody holds is "
                "refused, and "
                "the refusal says who holds it and which are free.\n"
                "\n"
                "  kohakuriver task submit -t mynode::0 -- python train.py\n"
                "  kohakuriver task submit -t mynode::0,1,2,3 -- python multi_gpu_train.py\n"
                "  kohakuriver task submit -t mynode:0::0,1 -c 8 -m 64G -w -- python train.py\n"
                "\n"
                "With --wait the task's standard output and standard error come out of this command's, nothing added "
                "to the "
                "former; Ctrl-C stops the waiting, not the task.",
        .options = submit_options,
        .run = cmd_task_submit,
    },
    {.path = "task list", .summary = "list tasks, newest first", .options = list_options, .run = cmd_task_list},
    {
        .path = "task status",
        .positional = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "show everything about one task",
        .options = show_options,
        .run = cmd_task_status,
    },
    {
        .path = "task logs",
        .positional = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "print what a task wrote, byte for byte",
        .options = logs_options,
        .run = cmd_task_logs,
    },
    {
        .path = "task kill",
        .positional = "ID…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "ask tasks to end: SIGTERM, then SIGKILL after the node's grace time",
        .help = "ID@NODE ends what that node runs under the number ID and the host has no record of (an orphan).",
        .options = kill_options,
        .run = cmd_task_kill,
    },
    {
        .path = "task watch",
        .positional = "ID",
        .min_args = 1,
        .max_args = 1,
        .summary = "print each change of a task's state until it is over",
        .help = "Exits with the task's own exit code; with 1 when it was killed or never ran.",
        .options = show_options,
        .run = cmd_task_watch,
    },
    {
        .path = "task pause",
        .positional = "ID…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "freeze tasks; their processes stay in memory and keep their GPUs",
        .options = wish_options,
        .run = cmd_task_pause,
    },
    {
        .path = "task resume",
        .positional = "ID…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "let paused tasks go on",
        .options = wish_options,
        .run = cmd_task_resume,
    },
    {
        .path = "task release",
        .positional = "ID|ID@NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "give a lease up without proof that its GPUs are free (operators; needs --force)",
        .help =
            "For a task that has ended and whose GPUs cannot be proved to be free, or whose node is silent and will "
            "not "
            "come back: such a task counts as failed. A task that runs on a node that answers is refused: kill it.\n\n"
            "Nothing is granted on these GPUs before their node has shown them at rest; a node that comes back and "
            "still "
            "runs the task keeps it as an orphan, and the GPUs with it. ID@NODE names such an orphan. The order is "
            "written "
            "to the audit log.",
        .options = release_options,
        .run = cmd_task_release,
    },
    {.path = "node list",
     .summary = "list the nodes and what is free on them",
     .options = show_options,
     .run = cmd_node_list},
    {
        .path = "node status",
        .positional = "NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "show a node and each of its GPUs: figures, state, holder",
        .options = status_options,
        .run = cmd_node_status,
    },
    {
        .path = "node watch",
        .positional = "NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "show a node's GPUs live: bars, a short history, who is on them",
        .options = watch_options,
        .run = cmd_node_watch,
    },
    {
        .path = "node health",
        .positional = "[NODE]",
        .max_args = 1,
        .summary = "list what is wrong with the nodes and their GPUs; exit code 1 when something is",
        .options = show_options,
        .run = cmd_node_health,
    },
    {
        .path = "node topo",
        .positional = "NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "show how a node's GPUs are joined: NVLink, PCIe, NUMA",
        .options = show_options,
        .run = cmd_node_topo,
    },
    {.path = "node summary",
     .summary = "count the cluster: nodes, tasks, GPUs of each model and how many are free",
     .options = show_options,
     .run = cmd_node_summary},
    {
        .path = "node cordon",
        .positional = "NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "keep new tasks away from a node",
        .options = order_options,
        .run = cmd_node_cordon,
    },
    {
        .path = "node uncordon",
        .positional = "NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "let a cordoned or drained node have tasks again",
        .options = order_options,
        .run = cmd_node_uncordon,
    },
    {
        .path = "node drain",
        .positional = "NODE",
        .min_args = 1,
        .max_args = 1,
        .summary = "empty a node: no new tasks, and with --kill an end for those it has",
        .options = drain_options,
        .run = cmd_node_drain,
    },
    {
        .path = "gpu list",
        .summary = "list every GPU of the cluster: figures, state, holder",
        .options = gpu_list_options,
        .run = cmd_gpu_list,
    },
    {
        .path = "gpu who",
        .positional = "NODE::IDX",
        .min_args = 1,
        .max_args = 1,
        .summary = "show who is on a GPU: its lease, and every process with user and container",
        .help = "The node looks afresh: processes that no lease of this cluster stands for are shown too.",
        .options = show_options,
        .run = cmd_gpu_who,
    },
    {
        .path = "gpu cordon",
        .positional = "NODE::IDX[,IDX…]",
        .min_args = 1,
        .max_args = 1,
        .summary = "keep new tasks away from GPUs",
        .options = order_options,
        .run = cmd_gpu_cordon,
    },
    {
        .path = "gpu uncordon",
        .positional = "NODE::IDX[,IDX…]",
        .min_args = 1,
        .max_args = 1,
        .summary = "let cordoned GPUs be granted again",
        .options = order_options,
        .run = cmd_gpu_uncordon,
    },
    {
        .path = "vps create",
        .summary = "make a virtual machine with GPUs of its own and start it",
        .help =
            "  kohakuriver vps create --backend qemu -t mynode::0 --vm-memory 16384 -c 8 --ssh\n"
            "\n"
            "Its GPUs are taken from their driver, given to the machine, and given back when it is off. Its disk stays "
            "until `vps delete`.",
        .options = vps_create_options,
        .run = cmd_vps_create,
    },
    {.path = "vps list", .summary = "list virtual machines", .options = show_options, .run = cmd_vps_list},
    {
        .path = "vps status",
        .positional = "VPS",
        .min_args = 1,
        .max_args = 1,
        .summary = "show everything about a virtual machine",
        .options = show_options,
        .run = cmd_vps_status,
    },
    {
        .path = "vps start",
        .positional = "VPS…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "start machines that are off; their GPUs are asked for anew",
        .options = wish_options,
        .run = cmd_vps_start,
    },
    {
        .path = "vps stop",
        .positional = "VPS…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "ask the guests to power off; their GPUs are given back",
        .options = wish_options,
        .run = cmd_vps_stop,
    },
    {
        .path = "vps restart",
        .positional = "VPS…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "stop machines, wait until they hold nothing, start them",
        .options = wish_options,
        .run = cmd_vps_restart,
    },
    {
        .path = "vps pause",
        .positional = "VPS…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "stop the processors of machines; they keep their GPUs",
        .options = wish_options,
        .run = cmd_vps_pause,
    },
    {
        .path = "vps resume",
        .positional = "VPS…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "let paused machines go on",
        .options = wish_options,
        .run = cmd_vps_resume,
    },
    {
        .path = "vps delete",
        .positional = "VPS…",
        .min_args = 1,
        .max_args = 1000,
        .summary = "delete machines that are off, with their disks",
        .options = wish_options,
        .run = cmd_vps_delete,
    },
    {
        .path = "vps logs",
        .positional = "VPS",
        .min_args = 1,
        .max_args = 1,
        .summary = "print what a machine wrote to its serial console",
        .options = logs_options,
        .run = cmd_vps_logs,
    },
    {
        .path = "vps console",
        .positional = "VPS",
        .min_args = 1,
        .max_args = 1,
        .summary = "sit at a machine's serial console; Ctrl-] leaves it",
        .options = wish_options,
        .run = cmd_vps_console,
    },
    {
        .path = "vps connect",
        .positional = "VPS",
        .min_args = 1,
        .max_args = 1,
        .summary = "log in to a machine, as `ssh` does",
        .may_take_command = true,
        .options = ssh_options,
        .run = cmd_ssh,
    },
    {
        .path = "ssh",
        .positional = "VPS",
        .min_args = 1,
        .max_args = 1,
        .may_take_command = true,
        .summary = "log in to a machine through the host, with the system's ssh",
        .help = "Words behind \"--\" are run there. The key that the machine must show is the one that its guest has "
                "told its node; "
                "where it has told none, the first one is taken and kept in ~/.config/kohakuriver. A guest that is "
                "starting is "
                "waited for.",
        .options = ssh_options,
        .run = cmd_ssh,
    },
    {
        .path = "qemu check",
        .summary = "show whether a node can run machines, and which of its GPUs can be passed to them",
        .help =
            "Shows discovered GPUs with their PCI address, IOMMU group, and any companion audio devices; for each that "
            "cannot be passed, why and what to do. KVM is tried by running a guest. Exits with 1 when machines cannot "
            "run. Run as root on the node, else the processes of others are not seen.",
        .options = qemu_check_options,
        .run = cmd_qemu_check,
    },
    {
        .path = "qemu acs-override",
        .summary = "explain what the ACS override does, does not do, and costs; changes nothing",
        .options = acs_options,
        .run = cmd_qemu_acs_override,
    },
    {
        .path = "audit",
        .summary = "show what operators have ordered, newest first",
        .options = audit_options,
        .run = cmd_audit,
    },
    {
        .path = "config show",
        .positional = "[host|runner]",
        .max_args = 1,
        .summary = "show every setting, its value and where that comes from",
        .options = config_options,
        .run = cmd_config_show,
    },
    {
        .path = "doctor",
        .summary = "look at this node for what will cost tasks or GPUs one day",
        .help =
            "Run it as root on a node, before its runner and after each change of driver, Docker or kernel. It reads "
            "files, changes nothing, and never wakes a driver; a read that hangs is given up after 5 seconds and "
            "reported. Exits with 1 when there are errors, with 0 when there are warnings alone.\n"
            "\n"
            "  kohakuriver doctor\n"
            "  kohakuriver doctor --check driver-library-mismatch --check cdi-stale-driver",
        .options = doctor_options,
        .run = cmd_doctor,
    },
    {
        .path = "host",
        .summary = "run the control plane",
        .help =
            "Settings come from the defaults, the group [host] of the file, and the options below, in rising order.",
        .run = cli_run_daemon,
        .config_keys = host_config_keys,
        .config_file = "/etc/kohakuriver/host.conf",
        .daemon = host_main,
    },
    {
        .path = "runner",
        .summary = "run the agent of this node",
        .help =
            "Settings come from the defaults, the group [runner] of the file, and the options below, in rising order.",
        .run = cli_run_daemon,
        .config_keys = runner_config_keys,
        .config_file = "/etc/kohakuriver/runner.conf",
        .daemon = runner_main,
    },
    {
        .path = "qemu image create",
        .summary = "put an image for machines on this node",
        .help = "To be run on the node, as the runner's user. The image is copied, checked and kept read-only.",
        .options = image_create_options,
        .run = cli_run_tool,
        .tool = image_tool_create,
    },
    {.path = "qemu image list",
     .summary = "list this node's images for machines",
     .options = tool_options,
     .run = cli_run_tool,
     .tool = image_tool_list},
    {
        .path = "qemu image delete",
        .positional = "NAME",
        .min_args = 1,
        .max_args = 1,
        .summary = "remove an image that no disk stands on",
        .options = tool_options,
        .run = cli_run_tool,
        .tool = image_tool_delete,
    },
    {.path = "qemu disk list",
     .summary = "list the disks of machines on this node, and who has them",
     .options = tool_options,
     .run = cli_run_tool,
     .tool = image_tool_disk_list},
    {
        .path = "qemu disk delete",
        .positional = "VPS",
        .min_args = 1,
        .max_args = 1,
        .summary = "remove the disk of a machine that is off; what is on it is lost",
        .options = tool_options,
        .run = cli_run_tool,
        .tool = image_tool_disk_delete,
    },
    {.path = "version",
     .summary = "print the version; with --host, the host's too",
     .options = show_options,
     .run = cmd_version},
    {
        .path = "completion",
        .positional = "bash|zsh|fish",
        .min_args = 1,
        .max_args = 1,
        .summary = "print the completion script of a shell",
        .run = cmd_completion,
    },
    {
        .path = "help",
        .positional = "[VERB…]",
        .max_args = 3,
        .summary = "show what there is, or more about one verb",
        .options = help_options,
        .run = cmd_help,
    },
    {.path = "gpu-worker", .is_hidden = true, .summary = "read the GPUs for a runner", .raw_main = gpu_worker_main},
    {.path = "vfio-step",
     .is_hidden = true,
     .summary = "do one step of a switch to vfio-pci",
     .raw_main = vfio_step_main},
    {.path = "vm-shim", .is_hidden = true, .summary = "supervise one machine's QEMU", .raw_main = shim_main},
    {.path = "vfio-switch",
     .is_hidden = true,
     .summary = "bind or give back cards by hand",
     .raw_main = vfio_switch_main},
    {.path = NULL},
};

int main(int argc, char **argv) { return cli_main(verbs, argc, argv); }
