#include "vm/qemu_facts.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "vm/child.h"
#include "vm/qemu_argv.h"

enum { LOOK_MS = 20000, KVM_API = 12 };

struct qemu_facts {
    uv_loop_t *loop;
    char *binary, *path; /* path: where it was found; NULL: nowhere */
    char *accel_set;
    struct child *child;
    bool is_known;
    struct stat seen;
    char *version, *problem;
    const char *machine_type;
    void (*on_known)(void *user);
    void *user;
};

struct qemu_facts *qemu_facts_new(uv_loop_t *loop, const char *binary, const char *accel, void (*on_known)(void *user),
                                  void *user) {
    struct qemu_facts *facts = g_new0(struct qemu_facts, 1);

    facts->loop = loop;
    facts->binary = g_strdup(binary);
    facts->accel_set = g_strdup(accel);
    facts->on_known = on_known;
    facts->user = user;
    return facts;
}

void qemu_facts_free(struct qemu_facts *facts) {
    if (!facts)
        return;
    child_cancel(facts->child);
    g_free(facts->binary);
    g_free(facts->path);
    g_free(facts->accel_set);
    g_free(facts->version);
    g_free(facts->problem);
    g_free(facts);
}

/* "/dev/kvm is there" is not enough: may we open it, and does it speak? */
static bool kvm_answers(void) {
    _cleanup_fd_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    return fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API;
}

const char *qemu_facts_accel(const struct qemu_facts *facts) {
    if (strcmp(facts->accel_set, "auto") != 0)
        return facts->accel_set;
    return kvm_answers() ? "kvm" : "tcg";
}

static void done(struct qemu_facts *facts, const char *problem) {
    g_free(facts->problem);
    facts->problem = g_strdup(problem);
    facts->is_known = true;
    facts->on_known(facts->user);
}

static void on_machines(void *user, const char *out, const GError *error) {
    struct qemu_facts *facts = user;

    facts->child = NULL;
    facts->machine_type = error ? NULL : qemu_machine_type_pick(out);
    if (error)
        done(facts, error->message);
    else if (!facts->machine_type)
        done(facts, "this QEMU has no machine type of ours: 7.2 or newer is needed");
    else if (strcmp(facts->accel_set, "kvm") == 0 && !kvm_answers())
        done(facts, "vm_accel is kvm and /dev/kvm does not answer");
    else
        done(facts, NULL);
}

/* "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)" */
static void on_version(void *user, const char *out, const GError *error) {
    struct qemu_facts *facts = user;
    const char *at = error ? NULL : strstr(out, "version ");
    const char *argv[] = {facts->path, "-machine", "help", NULL};

    facts->child = NULL;
    if (error || !at) {
        done(facts, error ? error->message : "it does not say its version");
        return;
    }
    at += strlen("version ");
    g_free(facts->version);
    facts->version = g_strndup(at, strspn(at, "0123456789."));
    facts->child = child_run(facts->loop, (char *const *)argv, LOOK_MS, on_machines, facts);
}

bool qemu_facts_refresh(struct qemu_facts *facts) {
    g_autofree char *path = g_find_program_in_path(facts->binary);
    const char *argv[] = {path, "-version", NULL};
    struct stat st;

    if (facts->child)
        return false;
    if (!path || stat(path, &st) != 0) {
        g_clear_pointer(&facts->path, g_free);
        g_free(facts->problem);
        facts->problem = g_strdup_printf("there is no %s", facts->binary);
        facts->is_known = true;
        return true;
    }
    if (facts->is_known && facts->path && st.st_ino == facts->seen.st_ino && st.st_mtime == facts->seen.st_mtime &&
        st.st_size == facts->seen.st_size && !facts->problem)
        return true;
    facts->seen = st;
    g_free(facts->path);
    facts->path = g_strdup(path);
    facts->child = child_run(facts->loop, (char *const *)argv, LOOK_MS, on_version, facts);
    return false;
}

bool qemu_facts_are_known(const struct qemu_facts *facts) { return facts->is_known && !facts->child; }
bool qemu_facts_is_absent(const struct qemu_facts *facts) { return facts->is_known && !facts->path; }
const char *qemu_facts_problem(const struct qemu_facts *facts) { return facts->problem; }
const char *qemu_facts_version(const struct qemu_facts *facts) { return facts->version; }
const char *qemu_facts_machine_type(const struct qemu_facts *facts) { return facts->machine_type; }
