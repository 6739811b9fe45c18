/* How Docker is set up, as far as files tell: daemon.json, and the command line of a dockerd that runs. */
#include <string.h>

#include "base/json.h"
#include "doctor/facts_internal.h"

#define DAEMON_JSON "/etc/docker/daemon.json"

void doctor_docker_free(struct doctor_docker *docker) {
    if (!docker)
        return;
    g_free(docker->default_runtime);
    g_free(docker->data_root);
    g_free(docker->said_by);
    g_free(docker->mistake);
    g_free(docker);
}

static void set_text(char **at, const char *text) {
    if (!text)
        return;
    g_free(*at);
    *at = g_strdup(text);
}

static void set_cgroup_driver(struct doctor_docker *docker, const char *exec_opt, const char *said_by) {
    static const char prefix[] = "native.cgroupdriver=";

    if (!exec_opt || !g_str_has_prefix(exec_opt, prefix))
        return;
    docker->is_systemd_cgroup = strcmp(exec_opt + strlen(prefix), "systemd") == 0;
    set_text(&docker->said_by, said_by);
}

static void read_json(struct doctor_docker *docker, const json_t *json) {
    const json_t *opts = json_object_get(json, "exec-opts"), *features = json_object_get(json, "features");
    const json_t *opt;
    size_t i;

    set_text(&docker->default_runtime, json_string_value(json_object_get(json, "default-runtime")));
    set_text(&docker->data_root, json_string_value(json_object_get(json, "data-root")));
    docker->has_live_restore = json_is_true(json_object_get(json, "live-restore"));
    docker->is_cdi_off = json_is_false(json_object_get(features, "cdi"));
    json_array_foreach (opts, i, opt)
        set_cgroup_driver(docker, json_string_value(opt), DAEMON_JSON);
}

static void read_daemon_json(struct doctor_case *c, struct doctor_docker *docker) {
    g_autofree char *text = doctor_root_read(c->root, DAEMON_JSON, DOCTOR_READ_MAX_BYTES);
    g_autoptr(GError) error = NULL;
    json_t *json;

    if (!text)
        return;
    docker->is_there = true;
    if (!g_strchomp(text)[0])
        return;
    json = jsonx_parse(text, strlen(text), &error);
    if (!json)
        docker->mistake = g_strdup(error->message);
    else
        read_json(docker, json);
    json_decref(json);
}

/* "--exec-opt native.cgroupdriver=x" or "--exec-opt=…": the value, else NULL. */
static const char *flag_value(char **words, size_t i, const char *name) {
    size_t len = strlen(name);

    if (strncmp(words[i], name, len) != 0)
        return NULL;
    if (words[i][len] == '=')
        return words[i] + len + 1;
    return words[i][len] == '\0' ? words[i + 1] : NULL;
}

static void read_flags(struct doctor_docker *docker, char **words) {
    for (size_t i = 0; words[i]; i++) {
        set_text(&docker->default_runtime, flag_value(words, i, "--default-runtime"));
        set_text(&docker->data_root, flag_value(words, i, "--data-root"));
        set_cgroup_driver(docker, flag_value(words, i, "--exec-opt"), "dockerd's command line");
        if (strcmp(words[i], "--live-restore") == 0 || strcmp(words[i], "--live-restore=true") == 0)
            docker->has_live_restore = true;
    }
}

/* The command line as systemd starts it: reading that of a process can hang on its memory. */
static void read_unit(struct doctor_case *c, struct doctor_docker *docker, const char *path) {
    g_autofree char *text = doctor_root_read(c->root, path, DOCTOR_READ_MAX_BYTES);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

    for (size_t i = 0; lines[i]; i++)
        if (g_str_has_prefix(lines[i], "ExecStart=") && strstr(lines[i], "dockerd")) {
            g_auto(GStrv) words = g_strsplit_set(lines[i], " \t\"", -1);
            read_flags(docker, words);
        }
}

static void read_units(struct doctor_case *c, struct doctor_docker *docker) {
    static const char folder[] = "/etc/systemd/system/docker.service.d";
    g_auto(GStrv) names = doctor_root_list(c->root, folder);
    bool is_local = doctor_has(c, "/etc/systemd/system/docker.service");

    read_unit(c, docker, is_local ? "/etc/systemd/system/docker.service" : "/usr/lib/systemd/system/docker.service");
    for (size_t i = 0; names && names[i]; i++) {
        g_autofree char *path = g_strconcat(folder, "/", names[i], NULL);
        read_unit(c, docker, path);
    }
}

const struct doctor_docker *doctor_docker(struct doctor_case *c) {
    struct doctor_docker *docker = c->facts->docker;

    if (docker)
        return docker;
    docker = c->facts->docker = g_new0(struct doctor_docker, 1);
    docker->is_there = doctor_has(c, "/usr/bin/dockerd") || doctor_has(c, "/usr/local/bin/dockerd") ||
                       doctor_has(c, "/run/docker.sock");
    docker->data_root = g_strdup("/var/lib/docker");
    docker->said_by = g_strdup("Docker's default here");
    docker->is_systemd_cgroup = doctor_has(c, "/run/systemd/system") &&
                                doctor_has(c, "/sys/fs/cgroup/cgroup.controllers");
    read_daemon_json(c, docker);
    read_units(c, docker);
    return docker;
}
