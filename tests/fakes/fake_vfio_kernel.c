/* Plays the kernel for a fake tree: takes the place of the program as the switcher's helper, and does to the tree what a real
 * write to sysfs would do. Other steps than writes go to the program named in KR_VFIO_REAL. ROOT/script says what goes wrong,
 * one rule a line: WHAT ADDRESS ACTION [once], with WHAT of override, unbind, probe, and ADDRESS or "*".
 *
 *   errno:N   fails              nothing   says success and does nothing     driver:NAME  that driver takes it
 *   late:MS   does it later      hang      never returns; can be killed      vanish       the device goes
 *   wedge     killing it does not end it: it goes on when ROOT/unwedge appears
 *   ones      does it, and the configuration space reads ffff from then on
 *   swap      does it, and another device answers at the address */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char root[512], device[1024], action[64];

static void pause_ms(long ms) {
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&span, NULL);
}

static char *path_of(const char *folder, const char *name) {
    static char paths[4][2048];
    static int turn;

    turn = (turn + 1) % 4;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", folder, name);
    return paths[turn];
}

static void put(const char *path, const void *data, size_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        exit(EIO);
    close(fd);
}

static void get(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static void bind_to(const char *driver) {
    char target[256];

    snprintf(target, sizeof target, "../../drivers/%s", driver);
    if (symlink(target, path_of(device, "driver")) < 0)
        exit(errno);
}

static void probe(const char *forced) {
    char override[64], fallback[64], link[PATH_MAX];

    if (readlink(path_of(device, "driver"), link, sizeof link) > 0)
        return;
    get(path_of(device, "driver_override"), override, sizeof override);
    get(path_of(device, "default_driver"), fallback, sizeof fallback);
    if (forced)
        bind_to(forced);
    else if (strcmp(override, "(null)") != 0)
        bind_to(override);
    else if (fallback[0])
        bind_to(fallback);
}

static void vanish(void) {
    char gone[1100];

    snprintf(gone, sizeof gone, "%s/gone", root);
    if (rename(device, gone) < 0)
        exit(errno);
}

static void act(const char *what, const char *value) {
    static const char ones[64] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";

    if (access(device, F_OK) < 0)
        exit(ENOENT);
    if (strcmp(action, "vanish") == 0)
        vanish();
    else if (strcmp(what, "override") == 0)
        put(path_of(device, "driver_override"), value[0] == '\n' ? "(null)\n" : value,
            value[0] == '\n' ? 7 : strlen(value));
    else if (strcmp(what, "unbind") == 0 && unlink(path_of(device, "driver")) < 0)
        exit(errno);
    else if (strcmp(what, "probe") == 0)
        probe(strncmp(action, "driver:", 7) == 0 ? action + 7 : NULL);
    if (strcmp(action, "ones") == 0)
        put(path_of(device, "config"), ones, sizeof ones);
    if (strcmp(action, "swap") == 0)
        put(path_of(device, "device"), "0x1041\n", 7);
}

static void read_script(const char *what, const char *address) {
    FILE *script = fopen(path_of(root, "script"), "r");
    char line[256], a[32], b[32], c[64], once[8];
    int n;

    while (script && fgets(line, sizeof line, script)) {
        n = sscanf(line, "%31s %31s %63s %7s", a, b, c, once);
        if (n < 3 || strcmp(a, what) != 0 || (b[0] != '*' && strcmp(b, address) != 0))
            continue;
        if (n == 4 && open(path_of(root, "used"), O_CREAT | O_EXCL, 0644) < 0)
            continue;
        snprintf(action, sizeof action, "%s", c);
    }
    if (script)
        fclose(script);
}

/* The lock stays with the child that nobody can end; when that comes through, the write returns, if there is anybody left to return to. */
static void wedge(const char *what, const char *value) {
    pid_t pid = fork();

    if (pid != 0) {
        waitpid(pid, NULL, 0);
        exit(0);
    }
    close(1);
    for (int i = 0; access(path_of(root, "unwedge"), F_OK) < 0 && i < 3000; i++)
        pause_ms(10);
    act(what, value);
    exit(0);
}

static int write_step(const char *path, const char *value) {
    const char *what = strstr(path, "/driver_override") ? "override" : strstr(path, "/unbind") ? "unbind" : "probe";
    const char *bus = strstr(path, "/sys/bus/pci/"), *address = strstr(path, "/devices/");
    char name[32];

    if (!bus)
        return EINVAL;
    snprintf(root, sizeof root, "%.*s", (int)(bus - path), path);
    snprintf(name, sizeof name, "%s", address ? address + strlen("/devices/") : value);
    name[strcspn(name, "/")] = '\0';
    snprintf(device, sizeof device, "%s/sys/bus/pci/devices/%s", root, name);
    read_script(what, name);
    if (strncmp(action, "errno:", 6) == 0)
        return (int)strtol(action + 6, NULL, 10);
    if (strcmp(action, "nothing") == 0)
        return 0;
    while (strcmp(action, "hang") == 0)
        pause();
    if (strncmp(action, "late:", 5) == 0)
        pause_ms(strtol(action + 5, NULL, 10));
    if (strcmp(action, "wedge") == 0)
        wedge(what, value);
    act(what, value);
    return 0;
}

int main(int argc, char **argv) {
    const char *real = getenv("KR_VFIO_REAL");

    if (argc == 5 && strcmp(argv[2], "write") == 0)
        return write_step(argv[3], argv[4]);
    if (real)
        execv(real, argv);
    return 255;
}
