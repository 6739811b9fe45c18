/* A described root: a line per thing, later lines replace earlier ones. Blank lines and lines that begin with '#' are
 * passed over. The words:
 *
 *   include FILE                          all of another description, beside this one
 *   file PATH [mode=OCTAL] [uid=N] [TEXT] one line of text; \n and \t in it are what they say
 *   text PATH                             the lines that follow, up to a line with a single dot
 *   link PATH TARGET                      a symbolic link
 *   dev PATH MAJOR MINOR                  a character device
 *   dir PATH                              an empty folder
 *   space PATH FREE TOTAL                 free space from there on: 5G 100G
 *   denied PATH, hang PATH                may not be read; does not come back when it is read
 *   ask OUTPUT <= PROGRAM ARGS…           what a program prints
 *   pci ADDRESS VENDOR:DEVICE CLASS [driver=D] [group=N] [boot_vga=0|1] [reset=METHOD]
 *   nvidia ADDRESS MINOR UUID             what the loaded driver shows of a card, with its nodes
 *   remove PATH                           this and all below it */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fs.h"
#include "base/units.h"
#include "doctor/root_ops.h"

enum { MAX_DESCRIPTION_BYTES = 1 << 20, MAX_INCLUDES = 8, MAX_LINKS = 20, NVIDIA_CHAR_MAJOR = 195 };

struct text_node {
    struct doctor_stat st;
    char *text; /* of a file; target of a link */
    bool is_denied, hangs;
    struct doctor_space space; /* total 0: not said */
};

struct root_text {
    GHashTable *nodes;   /* path without a slash at its end -> struct text_node */
    GHashTable *answers; /* "PROGRAM ARGS" -> output */
};

static void node_free(void *data) {
    struct text_node *node = data;

    g_free(node->text);
    g_free(node);
}

/* ---- looking ---- */

static bool is_below(const char *path, const char *folder) {
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && path[len] == '/';
}

static bool has_below(const struct root_text *root, const char *folder) {
    GHashTableIter iter;
    void *path;

    g_hash_table_iter_init(&iter, root->nodes);
    while (g_hash_table_iter_next(&iter, &path, NULL))
        if (is_below(path, folder))
            return true;
    return false;
}

/* The path with the links on its way followed; the last one too unless no_follow. NULL: too many of them. */
static char *resolve(const struct root_text *root, const char *path, bool no_follow) {
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    GString *at = g_string_new(NULL);
    int links = 0;

    for (size_t i = 0; parts[i]; i++) {
        const struct text_node *node;

        if (!parts[i][0] || strcmp(parts[i], ".") == 0)
            continue;
        if (strcmp(parts[i], "..") == 0) {
            const char *slash = strrchr(at->str, '/');
            g_string_truncate(at, slash ? (gsize)(slash - at->str) : 0);
            continue;
        }
        g_string_append_printf(at, "/%s", parts[i]);
        node = g_hash_table_lookup(root->nodes, at->str);
        if (node && S_ISLNK(node->st.mode) && !(no_follow && !parts[i + 1])) {
            g_autofree char *rest = g_strjoinv("/", parts + i + 1), *folder = g_path_get_dirname(at->str);
            g_autofree char *next = node->text[0] == '/' ? g_strconcat(node->text, "/", rest, NULL)
                                                         : g_strconcat(folder, "/", node->text, "/", rest, NULL);
            if (++links > MAX_LINKS) {
                g_string_free(at, TRUE);
                return NULL;
            }
            g_strfreev(g_steal_pointer(&parts));
            parts = g_strsplit(next, "/", -1);
            g_string_truncate(at, 0);
            i = (size_t)-1;
        }
    }
    return g_string_free(at, FALSE);
}

static const struct text_node *find(const struct root_text *root, const char *path, bool no_follow, int *ret_errno) {
    g_autofree char *real = resolve(root, path, no_follow);
    const struct text_node *node = real ? g_hash_table_lookup(root->nodes, real) : NULL;

    *ret_errno = node && node->is_denied ? EACCES : node ? 0 : ENOENT;
    while (node && node->hangs)
        pause();
    return node && node->is_denied ? NULL : node;
}

static char *text_read(void *data, const char *path, size_t max_bytes, int *ret_errno) {
    const struct text_node *node = find(data, path, false, ret_errno);

    if (!node || !S_ISREG(node->st.mode))
        return NULL;
    if (strlen(node->text) > max_bytes) {
        *ret_errno = EFBIG;
        return NULL;
    }
    return g_strdup(node->text);
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static char **text_list(void *data, const char *path, int *ret_errno) {
    const struct root_text *root = data;
    g_autofree char *real = resolve(root, path, false);
    const struct text_node *node = find(root, path, false, ret_errno);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GPtrArray *sorted;
    GHashTableIter iter;
    void *other;

    if (*ret_errno == EACCES || !real || (!(node && S_ISDIR(node->st.mode)) && !has_below(root, real)))
        return NULL;
    g_hash_table_iter_init(&iter, root->nodes);
    while (g_hash_table_iter_next(&iter, &other, NULL))
        if (is_below(other, real)) {
            const char *name = (const char *)other + strlen(real) + 1;
            g_hash_table_add(names, g_strndup(name, strcspn(name, "/")));
        }
    sorted = g_ptr_array_new();
    g_hash_table_iter_init(&iter, names);
    while (g_hash_table_iter_next(&iter, &other, NULL))
        g_ptr_array_add(sorted, g_strdup(other));
    g_ptr_array_sort(sorted, compare_names);
    g_ptr_array_add(sorted, NULL);
    return (char **)g_ptr_array_free(sorted, FALSE);
}

static char *text_link(void *data, const char *path, int *ret_errno) {
    const struct text_node *node = find(data, path, true, ret_errno);

    return node && S_ISLNK(node->st.mode) ? g_strdup(node->text) : NULL;
}

static bool text_stat(void *data, const char *path, struct doctor_stat *ret_stat, int *ret_errno) {
    const struct root_text *root = data;
    g_autofree char *real = resolve(root, path, false);
    const struct text_node *node = real ? g_hash_table_lookup(root->nodes, real) : NULL;

    *ret_errno = ENOENT;
    if (node)
        *ret_stat = node->st;
    else if (real && has_below(root, real))
        *ret_stat = (struct doctor_stat){.mode = S_IFDIR | 0755};
    else
        return false;
    return true;
}

static bool text_space(void *data, const char *path, struct doctor_space *ret_space) {
    int ignored;
    const struct text_node *node = find(data, path, false, &ignored);

    if (!node || node->space.total_bytes == 0)
        return false;
    *ret_space = node->space;
    return true;
}

static char *text_ask(void *data, const char *const *argv) {
    const struct root_text *root = data;
    g_autofree char *line = g_strjoinv(" ", (char **)argv);

    return g_strdup(g_hash_table_lookup(root->answers, line));
}

static void text_close(void *data) {
    struct root_text *root = data;

    g_hash_table_unref(root->nodes);
    g_hash_table_unref(root->answers);
    g_free(root);
}

const struct root_ops root_text_ops = {
    .read = text_read,
    .list = text_list,
    .link = text_link,
    .stat = text_stat,
    .space = text_space,
    .ask = text_ask,
    .close = text_close,
};

/* ---- making ---- */

static struct text_node *put(struct root_text *root, const char *path, mode_t mode, const char *text) {
    struct text_node *node = g_new0(struct text_node, 1);
    size_t len = strlen(path);

    while (len > 0 && path[len - 1] == '/')
        len--;
    node->st.mode = mode;
    node->text = g_strdup(text ? text : "");
    g_hash_table_replace(root->nodes, g_strndup(path, len), node);
    return node;
}

static void putf(struct root_text *root, const char *text, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void putf(struct root_text *root, const char *text, const char *format, ...) {
    g_autofree char *path = NULL, *line = g_strconcat(text, "\n", NULL);
    va_list args;

    va_start(args, format);
    path = g_strdup_vprintf(format, args);
    va_end(args);
    put(root, path, S_IFREG | 0444, line);
}

static void put_device(struct root_text *root, const char *path, unsigned major_number, unsigned minor_number) {
    put(root, path, S_IFCHR | 0666, NULL)->st.device = makedev(major_number, minor_number);
}

static void remove_tree(struct root_text *root, const char *path) {
    GHashTableIter iter;
    void *other;

    g_hash_table_iter_init(&iter, root->nodes);
    while (g_hash_table_iter_next(&iter, &other, NULL))
        if (strcmp(other, path) == 0 || is_below(other, path))
            g_hash_table_iter_remove(&iter);
}

/* "name=value" among the words; NULL without. */
static const char *option(char **words, const char *name) {
    size_t len = strlen(name);

    for (; *words; words++)
        if (strncmp(*words, name, len) == 0 && (*words)[len] == '=')
            return *words + len + 1;
    return NULL;
}

static void put_link(struct root_text *root, const char *path, const char *target) {
    put(root, path, S_IFLNK | 0777, target);
}

static void put_pci(struct root_text *root, char **words) {
    g_autofree char *folder = g_strconcat("/sys/bus/pci/devices/", words[1], NULL);
    g_auto(GStrv) ids = g_strsplit(words[2], ":", 2);
    g_autofree char *vendor = g_strconcat("0x", ids[0], NULL), *device = g_strconcat("0x", ids[1], NULL);
    g_autofree char *class = g_strconcat("0x", words[3], NULL);
    const char *driver = option(words, "driver"), *group = option(words, "group"), *vga = option(words, "boot_vga");
    const char *reset = option(words, "reset");

    remove_tree(root, folder);
    putf(root, vendor, "%s/vendor", folder);
    putf(root, device, "%s/device", folder);
    putf(root, class, "%s/class", folder);
    if (vga)
        putf(root, vga, "%s/boot_vga", folder);
    if (reset)
        putf(root, reset, "%s/reset_method", folder);
    if (driver) {
        g_autofree char *path = g_strconcat(folder, "/driver", NULL);
        g_autofree char *target = g_strconcat("/sys/bus/pci/drivers/", driver, NULL);
        put_link(root, path, target);
    }
    if (group) {
        g_autofree char *path = g_strconcat(folder, "/iommu_group", NULL);
        g_autofree char *target = g_strconcat("/sys/kernel/iommu_groups/", group, NULL);
        g_autofree char *member = g_strconcat(target, "/devices/", words[1], NULL);
        put_link(root, path, target);
        put_link(root, member, folder);
    }
}

static void put_nvidia(struct root_text *root, char **words) {
    g_autofree char *about = g_strdup_printf("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 63\nGPU UUID: \t %s\n"
                                             "Bus Type: \t PCIe\nBus Location: \t %s\nDevice Minor: \t %s\n"
                                             "GPU Excluded:\t No",
                                             words[3], words[1], words[2]);
    g_autofree char *node = g_strconcat("/dev/nvidia", words[2], NULL),
                    *name = g_strconcat("../nvidia", words[2], NULL);
    g_autofree char *link = g_strdup_printf("/dev/char/%d:%s", NVIDIA_CHAR_MAJOR, words[2]);

    putf(root, about, "/proc/driver/nvidia/gpus/%s/information", words[1]);
    put_device(root, node, NVIDIA_CHAR_MAJOR, (unsigned)g_ascii_strtoull(words[2], NULL, 10));
    put_link(root, link, name);
}

static void put_file(struct root_text *root, char **words, const char *line) {
    const char *mode = option(words, "mode"), *uid = option(words, "uid"), *rest = line;
    g_autofree char *text = NULL;
    struct text_node *node;

    for (int skip = 2 + (mode != NULL) + (uid != NULL); skip > 0; skip--) {
        rest += strcspn(rest, " ");
        rest += strspn(rest, " ");
    }
    text = g_strcompress(rest);
    node = put(root, words[1], S_IFREG | (mode_t)(mode ? strtoul(mode, NULL, 8) : 0644), text);
    node->st.uid = uid ? (uid_t)strtoul(uid, NULL, 10) : 0;
}

static bool put_space(struct root_text *root, char **words, GError **error) {
    struct text_node *node = g_hash_table_lookup(root->nodes, words[1]);

    if (!node)
        node = put(root, words[1], S_IFDIR | 0755, NULL);
    return units_bytes_from_str(words[2], &node->space.free_bytes, error) &&
           units_bytes_from_str(words[3], &node->space.total_bytes, error);
}

static bool put_mark(struct root_text *root, char **words) {
    struct text_node *node = g_hash_table_lookup(root->nodes, words[1]);

    if (!node)
        node = put(root, words[1], S_IFREG | 0400, NULL);
    node->is_denied |= strcmp(words[0], "denied") == 0;
    node->hangs |= strcmp(words[0], "hang") == 0;
    return true;
}

static bool put_answer(struct root_text *root, const char *line) {
    const char *arrow = strstr(line, " <= ");
    g_autofree char *raw = arrow ? g_strndup(line + 4, (gsize)(arrow - line - 4)) : NULL;

    if (!arrow)
        return false;
    g_hash_table_replace(root->answers, g_strdup(arrow + 4), g_strcompress(raw));
    return true;
}

static bool read_description(struct root_text *root, const char *path, int depth, GError **error);

static bool include(struct root_text *root, const char *from, const char *name, int depth, GError **error) {
    g_autofree char *folder = g_path_get_dirname(from), *path = g_build_filename(folder, name, NULL);

    return read_description(root, path, depth + 1, error);
}

/* Takes the lines up to the dot; *at is left on it. */
static void put_lines(struct root_text *root, const char *path, char **lines, size_t *at) {
    GString *text = g_string_new(NULL);

    while (lines[*at + 1] && strcmp(lines[*at + 1], ".") != 0)
        g_string_append_printf(text, "%s\n", lines[++*at]);
    if (lines[*at + 1])
        ++*at;
    put(root, path, S_IFREG | 0644, text->str);
    g_string_free(text, TRUE);
}

/* How many words a line needs at least, its first included. */
static const struct {
    const char *word;
    guint min_words;
} forms[] = {{"include", 2}, {"file", 2}, {"text", 2},   {"link", 3},   {"dev", 4}, {"dir", 2}, {"space", 4},
             {"denied", 2},  {"hang", 2}, {"remove", 2}, {"nvidia", 4}, {"pci", 4}, {"ask", 3}};

static bool has_form(char **words) {
    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++)
        if (strcmp(forms[i].word, words[0]) == 0)
            return g_strv_length(words) >= forms[i].min_words &&
                   (strcmp(words[0], "pci") != 0 || strchr(words[2], ':') != NULL);
    return false;
}

static bool put_line(struct root_text *root, char **words, const char *line, GError **error) {
    if (strcmp(words[0], "file") == 0)
        put_file(root, words, line);
    else if (strcmp(words[0], "link") == 0)
        put_link(root, words[1], words[2]);
    else if (strcmp(words[0], "dev") == 0)
        put_device(root, words[1], (unsigned)strtoul(words[2], NULL, 10), (unsigned)strtoul(words[3], NULL, 10));
    else if (strcmp(words[0], "dir") == 0)
        put(root, words[1], S_IFDIR | 0755, NULL);
    else if (strcmp(words[0], "space") == 0)
        return put_space(root, words, error);
    else if (strcmp(words[0], "remove") == 0)
        remove_tree(root, words[1]);
    else if (strcmp(words[0], "nvidia") == 0)
        put_nvidia(root, words);
    else if (strcmp(words[0], "pci") == 0)
        put_pci(root, words);
    else if (strcmp(words[0], "ask") == 0)
        return put_answer(root, line) || kr_fail(error, USAGE, "ask wants: ask OUTPUT <= PROGRAM ARGS");
    else
        put_mark(root, words);
    return true;
}

static bool read_lines(struct root_text *root, const char *path, char **lines, int depth, GError **error) {
    for (size_t i = 0; lines[i]; i++) {
        g_auto(GStrv) words = g_strsplit(lines[i], " ", -1);
        size_t number = i + 1;
        bool ok = true;

        if (!words[0] || !words[0][0] || words[0][0] == '#')
            continue;
        if (!has_form(words))
            ok = kr_fail(error, USAGE, "\"%s\" is not understood", lines[i]);
        else if (strcmp(words[0], "include") == 0)
            ok = include(root, path, words[1], depth, error);
        else if (strcmp(words[0], "text") == 0)
            put_lines(root, words[1], lines, &i);
        else
            ok = put_line(root, words, lines[i], error);
        if (!ok) {
            g_prefix_error(error, "%s:%zu: ", path, number);
            return false;
        }
    }
    return true;
}

static bool read_description(struct root_text *root, const char *path, int depth, GError **error) {
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GError) why = NULL;

    if (depth > MAX_INCLUDES)
        return kr_fail(error, USAGE, "%s: included too deep", path);
    if (!fs_read_file(path, MAX_DESCRIPTION_BYTES, &text, NULL, &why))
        return kr_fail(error, USAGE, "--root: %s", why->message);
    if (!g_utf8_validate(text, -1, NULL))
        return kr_fail(error, USAGE, "--root %s: neither a folder nor the description of one", path);
    lines = g_strsplit(text, "\n", -1);
    return read_lines(root, path, lines, depth, error);
}

void *root_text_open(const char *path, GError **error) {
    struct root_text *root = g_new0(struct root_text, 1);

    root->nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, node_free);
    root->answers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (read_description(root, path, 0, error))
        return root;
    text_close(root);
    return NULL;
}
