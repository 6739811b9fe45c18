#include "vm/cloud_init.h"

#include <jansson.h>
#include <string.h>

enum { FIRST_TURING_ID = 0x1e00 };
#define STATE_FOLDER "/var/lib/kohakuriver"
#define AGENT_PATH "/usr/local/sbin/kohakuriver-agent"
#define SETUP_PATH "/usr/local/sbin/kohakuriver-setup"
#define DRIVER_PATH "/usr/local/sbin/kohakuriver-driver"
#define BOUNDARY "==kohakuriver-part=="

/* ---- values ---- */

/* YAML knows fewer characters than JSON: the others would make the whole document unreadable. */
static bool is_printable(gunichar c) {
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0x7e) || c == 0x85 || (c >= 0xa0 && c <= 0xd7ff) ||
           (c >= 0xe000 && c <= 0xfffd && c != 0xfeff) || (c >= 0x10000 && c <= 0x10ffff);
}

static json_t *text(const char *value) {
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    g_autoptr(GString) clean = g_string_new(NULL);

    for (const char *at = valid; *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        if (is_printable(c))
            g_string_append_unichar(clean, c);
    }
    return json_string(clean->str);
}

static json_t *list_of(const char *const *words) {
    json_t *list = json_array();

    for (; *words; words++)
        json_array_append_new(list, text(*words));
    return list;
}
#define WORDS(...) list_of((const char *const[]){__VA_ARGS__, NULL})

/* Takes over `json`. */
static char *document(const char *head, json_t *json) {
    char *dump = json_dumps(json, JSON_INDENT(1));
    char *result = g_strconcat(head, dump, "\n", NULL);

    free(dump);
    json_decref(json);
    return result;
}

/* ---- the two small ones ---- */

char *cloud_init_meta_data(const struct cloud_init *c) {
    return document("",
                    json_pack("{s:o,s:o}", "instance-id", text(c->instance_id), "local-hostname", text(c->hostname)));
}

char *cloud_init_network_config(const struct cloud_init *c) {
    json_t *nic = json_pack("{s:{s:o},s:b}", "match", "macaddress", text(c->mac), "dhcp4", c->address == NULL);
    json_t *servers = json_array();

    for (char *const *server = c->name_servers; server && *server; server++)
        json_array_append_new(servers, text(*server));
    if (c->address) {
        json_object_set_new(nic, "addresses", WORDS(c->address));
        json_object_set_new(nic, "routes", json_pack("[{s:s,s:o}]", "to", "0.0.0.0/0", "via", text(c->gateway)));
        json_object_set_new(nic, "nameservers", json_pack("{s:O}", "addresses", servers));
    }
    json_decref(servers);
    return document("", json_pack("{s:i,s:{s:o}}", "version", 2, "ethernets", "nic0", nic));
}

/* ---- user-data ---- */

static json_t *file(const char *path, const char *mode, const char *content) {
    return json_pack("{s:s,s:s,s:s,s:o}", "path", path, "permissions", mode, "owner", "root:root", "content",
                     text(content));
}

static json_t *make_users(const struct cloud_init *c) {
    json_t *keys = json_array();

    for (char *const *key = c->ssh_keys; key && *key; key++)
        json_array_append_new(keys, text(*key));
    return json_pack("[{s:o,s:s,s:s,s:b,s:o}]", "name", text(c->user), "shell", "/bin/bash", "sudo",
                     "ALL=(ALL) NOPASSWD:ALL", "lock_passwd", true, "ssh_authorized_keys", keys);
}

static const char agent_unit[] = "[Unit]\n"
                                 "Description=Tells the node how this machine is\n"
                                 "ConditionPathExists=/dev/virtio-ports/org.kohakuriver.agent.0\n"
                                 "[Service]\n"
                                 "ExecStart=" AGENT_PATH "\n"
                                 "Restart=always\n"
                                 "RestartSec=5\n"
                                 "[Install]\n"
                                 "WantedBy=multi-user.target\n";

/* What both ways of installing share: state for the agent, and a failure that is told instead of passed over. */
static const char driver_head[] = "#!/bin/sh\n"
                                  "set -u\n"
                                  "state() { mkdir -p " STATE_FOLDER "; echo \"$*\" > " STATE_FOLDER "/driver; }\n"
                                  "fail() { echo \"driver: $*\" >&2; state failed; echo \"$*\" >> " STATE_FOLDER
                                  "/driver; exit 1; }\n"
                                  "state installing\n"
                                  "export DEBIAN_FRONTEND=noninteractive\n"
                                  ". /etc/os-release\n";
static const char driver_tail[] = "modprobe nvidia || fail 'the module does not load'\n"
                                  "nvidia-smi -L || fail 'nvidia-smi sees no GPU'\n"
                                  "state ready\n";

static char *distribution_script(const struct cloud_init *c) {
    g_auto(GStrv) part = g_strsplit(c->driver_version, ".", 2);
    const char *major = part[0] ? part[0] : "";

    return g_strdup_printf(
        "%s"
        "apt-get update || fail 'apt-get update'\n"
        "case $ID in\n"
        "ubuntu)\n"
        "    major='%s'\n"
        "    [ -n \"$major\" ] || fail 'the version of the node'\"'\"'s driver is not known'\n"
        "    packages=\"nvidia-driver-$major-server%s\" ;;\n"
        "debian)\n"
        "    sed -i 's/^Components:.*/Components: main contrib non-free non-free-firmware/' "
        "/etc/apt/sources.list.d/*.sources 2>/dev/null\n"
        "    sed -i '/^deb /s/ main.*/ main contrib non-free non-free-firmware/' /etc/apt/sources.list "
        "2>/dev/null\n"
        "    apt-get update || fail 'apt-get update'\n"
        "    packages='%s' ;;\n"
        "*) fail \"no way is known for $ID\" ;;\n"
        "esac\n"
        "apt-get install -y \"linux-headers-$(uname -r)\" || fail 'no headers for this kernel'\n"
        "apt-get install -y $packages || fail \"$packages\"\n"
        "%s",
        driver_head, major, c->is_open ? "-open" : "",
        c->is_open ? "nvidia-open-kernel-dkms nvidia-driver nvidia-smi" : "nvidia-driver nvidia-smi", driver_tail);
}

/* Quoted for a shell, whatever it holds. */
static char *run_file_script(const struct cloud_init *c) {
    g_autofree char *source = g_shell_quote(c->driver_source), *sum = g_shell_quote(c->driver_sha256);

    return g_strdup_printf(
        "%s"
        "source=%s\n"
        "[ -n \"$source\" ] || fail 'the version of the node'\"'\"'s driver is not known'\n"
        "sum=%s\n"
        "[ -n \"$sum\" ] || fail 'no checksum is configured for it'\n"
        "file=$source\n"
        "case $source in http://*|https://*)\n"
        "    file=/var/tmp/nvidia.run\n"
        "    curl -fsSL -o \"$file\" \"$source\" || fail \"cannot fetch $source\" ;;\n"
        "esac\n"
        "echo \"$sum  $file\" | sha256sum -c - || fail 'the file has another checksum'\n"
        "if ! command -v dkms || ! command -v cc || ! [ -e \"/lib/modules/$(uname -r)/build\" ]; then\n"
        "    apt-get update && apt-get install -y build-essential dkms \"linux-headers-$(uname -r)\" ||\n"
        "        fail 'no build environment'\n"
        "fi\n"
        "sh \"$file\" --silent --dkms --kernel-module-type=%s || fail 'the installer failed'\n"
        "%s",
        driver_head, source, sum, c->is_open ? "open" : "proprietary", driver_tail);
}

static char *driver_script(const struct cloud_init *c) {
    if (c->driver == CLOUD_DRIVER_NONE)
        return NULL;
    return c->driver == CLOUD_DRIVER_RUN_FILE ? run_file_script(c) : distribution_script(c);
}

/* The rest of the first start. Not by cloud-init, which does each thing once and never again when it is cut off in it: this is begun anew at
 * each start until it has come to its end. It waits for the user's own document and nothing waits for it (cloud-final.service itself waits for
 * multi-user.target). */
static const char setup_unit[] = "[Unit]\n"
                                 "Description=First start: what takes long\n"
                                 "ConditionPathExists=!" STATE_FOLDER "/ready\n"
                                 "After=cloud-final.service network-online.target\n"
                                 "Wants=network-online.target\n"
                                 "[Service]\n"
                                 "Type=oneshot\n"
                                 "ExecStart=" SETUP_PATH "\n"
                                 "StandardOutput=journal+console\n"
                                 "StandardError=journal+console\n"
                                 "TimeoutStartSec=infinity\n"
                                 "[Install]\n"
                                 "WantedBy=cloud-init.target\n";
static const char setup_script[] = "#!/bin/sh\n"
                                   "mkdir -p " STATE_FOLDER "\n"
                                   "[ ! -x " DRIVER_PATH " ] || " DRIVER_PATH "\n"
                                   "touch " STATE_FOLDER "/ready\n";

static json_t *make_files(const struct cloud_init *c, const char *driver) {
    json_t *files = json_array();

    json_array_append_new(files, file(AGENT_PATH, "0700", c->agent));
    json_array_append_new(files, file(SETUP_PATH, "0700", setup_script));
    if (driver)
        json_array_append_new(files, file(DRIVER_PATH, "0700", driver));
    json_array_append_new(files, file("/etc/systemd/system/kohakuriver-setup.service", "0644", setup_unit));
    json_array_append_new(files, file("/etc/systemd/system/kohakuriver-agent.service", "0644", agent_unit));
    return files;
}

#define UNITS "kohakuriver-agent.service kohakuriver-setup.service"

static json_t *make_commands(void) {
    json_t *commands = json_array();

    json_array_append_new(commands, WORDS("systemctl", "daemon-reload"));
    json_array_append_new(commands, WORDS("sh", "-c", "systemctl enable --now --no-block " UNITS));
    return commands;
}

/* At each start: where the first one was cut off after the files and before the commands above. */
static json_t *make_boot_commands(void) {
    json_t *commands = json_array();

    json_array_append_new(commands, WORDS("sh", "-c",
                                          "[ ! -e /etc/systemd/system/kohakuriver-agent.service ] || "
                                          "systemctl enable --now --no-block " UNITS));
    return commands;
}

static char *cloud_config(const struct cloud_init *c) {
    g_autofree char *driver = driver_script(c);
    json_t *json = json_pack("{s:o,s:b,s:o,s:b,s:b,s:o,s:o,s:o}", "hostname", text(c->hostname), "manage_etc_hosts",
                             true, "users", make_users(c), "ssh_pwauth", false, "disable_root", true, "write_files",
                             make_files(c, driver), "bootcmd", make_boot_commands(), "runcmd", make_commands());

    if (c->has_share)
        json_object_set_new(json, "mounts",
                            json_pack("[o]", WORDS("shared", "/shared", "9p",
                                                   "trans=virtio,version=9p2000.L,msize=262144,nofail", "0", "0")));
    return document("#cloud-config\n", json);
}

/* Lines of 76, as mail programs want them. */
static void add_part(GString *mail, const char *type, const char *name, const char *extra_header, const char *body) {
    g_autofree char *base64 = g_base64_encode((const guchar *)body, strlen(body));
    size_t len = strlen(base64);

    g_string_append_printf(mail,
                           "--" BOUNDARY "\nContent-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\n"
                           "Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"%s\"\n%s\n",
                           type, name, extra_header);
    for (size_t at = 0; at < len; at += 76)
        g_string_append_printf(mail, "%.76s\n", base64 + at);
    g_string_append_c(mail, '\n');
}

/* text/plain: cloud-init looks at how it begins. Ours stands where both say something; lists are joined. */
char *cloud_init_user_data(const struct cloud_init *c) {
    g_autofree char *ours = cloud_config(c);
    GString *mail;

    if (!c->user_data || !c->user_data[0])
        return g_steal_pointer(&ours);
    mail = g_string_new("Content-Type: multipart/mixed; boundary=\"" BOUNDARY "\"\nMIME-Version: 1.0\n\n");
    add_part(mail, "text/cloud-config", "kohakuriver.cfg", "", ours);
    add_part(mail, "text/plain", "user-data", "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n",
             c->user_data);
    g_string_append(mail, "--" BOUNDARY "--\n");
    return g_string_free(mail, FALSE);
}

/* ---- the driver's version and flavour ---- */

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 …" */
char *cloud_driver_version(const char *text_of_file) {
    g_auto(GStrv) word = g_strsplit_set(text_of_file, " \t\n", -1);

    for (char **at = word; *at; at++) {
        size_t len = strspn(*at, "0123456789.");
        if (len > 3 && (*at)[len] == '\0' && strchr(*at, '.') && g_ascii_isdigit((*at)[0]))
            return g_strdup(*at);
    }
    return NULL;
}

char *cloud_driver_source(const char *pattern, const char *version, bool is_data_centre) {
    g_autoptr(GString) source = g_string_new(pattern);

    if (strstr(pattern, "{version}") && !version[0])
        return NULL;
    g_string_replace(source, "{version}", version, 0);
    g_string_replace(source, "{line}", is_data_centre ? "tesla" : "XFree86/Linux-x86_64", 0);
    return g_string_free(g_steal_pointer(&source), FALSE);
}

/* "SUM", or "535.104.05=SUM, 550.54.14=SUM". */
char *cloud_driver_sum(const char *sums, const char *version) {
    g_auto(GStrv) items = g_strsplit(sums, ",", -1);

    for (char **item = items; *item; item++) {
        char *equals = strchr(*item, '=');
        if (!equals)
            return g_strdup(g_strstrip(*item));
        *equals = '\0';
        if (strcmp(g_strstrip(*item), version) == 0)
            return g_strdup(g_strstrip(equals + 1));
    }
    return g_strdup("");
}

bool cloud_card_takes_open(unsigned device_id) { return device_id >= FIRST_TURING_ID; }
