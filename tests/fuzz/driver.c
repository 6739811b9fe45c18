/* Stands in for libFuzzer where only gcc is there: runs every seed of a folder, then mutated seeds until the time is
 * over. No coverage feedback: a smoke test. Usage as with libFuzzer, as far as it goes:
 *   fuzz_NAME [-max_total_time=SECONDS] [-seed=N] CORPUS */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static GPtrArray *load_seeds(const char *folder) {
    GPtrArray *seeds = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        char *text;
        gsize len;

        if (g_file_get_contents(path, &text, &len, NULL))
            g_ptr_array_add(seeds, g_bytes_new_take(text, len));
    }
    if (seeds->len == 0)
        g_ptr_array_add(seeds, g_bytes_new_static("", 0));
    return seeds;
}

/* A copy of exactly its size, so that a sanitizer sees a read one byte too far. */
static void run_once(const uint8_t *data, size_t size) {
    g_autofree uint8_t *copy = g_memdup2(data, size);

    LLVMFuzzerTestOneInput(copy ? copy : (const uint8_t *)"", size);
}

static void mutate(GByteArray *bytes, GRand *rand, GBytes *other) {
    guint at = bytes->len ? (guint)g_rand_int_range(rand, 0, (gint32)bytes->len) : 0;
    gsize other_len;
    const uint8_t *other_data = g_bytes_get_data(other, &other_len);

    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        if (bytes->len)
            bytes->data[at] = (uint8_t)g_rand_int_range(rand, 0, 256);
        break;
    case 1:
        if (bytes->len)
            bytes->data[at] ^= (uint8_t)(1U << g_rand_int_range(rand, 0, 8));
        break;
    case 2: g_byte_array_set_size(bytes, at); break;
    case 3:
        if (bytes->len)
            g_byte_array_remove_index(bytes, at);
        break;
    case 4: g_byte_array_append(bytes, other_data, (guint)(other_len / (gsize)g_rand_int_range(rand, 1, 5))); break;
    }
}

static long mutate_until(GPtrArray *seeds, double seconds, uint32_t seed) {
    g_autoptr(GTimer) timer = g_timer_new();
    GRand *rand = g_rand_new_with_seed(seed);
    long runs = 0;

    while (g_timer_elapsed(timer, NULL) < seconds) {
        GBytes *base = seeds->pdata[g_rand_int_range(rand, 0, (gint32)seeds->len)];
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        gsize len;
        const uint8_t *data = g_bytes_get_data(base, &len);

        if (len)
            g_byte_array_append(bytes, data, (guint)len);
        for (int n = g_rand_int_range(rand, 1, 6); n > 0; n--)
            mutate(bytes, rand, seeds->pdata[g_rand_int_range(rand, 0, (gint32)seeds->len)]);
        run_once(bytes->data, bytes->len);
        runs++;
    }
    g_rand_free(rand);
    return runs;
}

int main(int argc, char **argv) {
    uint32_t seed = 1;
    double seconds = 0;
    const char *folder = NULL;
    g_autoptr(GPtrArray) seeds = NULL;

    for (int i = 1; i < argc; i++) {
        if (g_str_has_prefix(argv[i], "-max_total_time="))
            seconds = g_ascii_strtod(strchr(argv[i], '=') + 1, NULL);
        else if (g_str_has_prefix(argv[i], "-seed="))
            seed = (uint32_t)g_ascii_strtoull(strchr(argv[i], '=') + 1, NULL, 10);
        else if (argv[i][0] != '-')
            folder = argv[i];
    }
    seeds = load_seeds(folder ? folder : "");
    for (guint i = 0; i < seeds->len; i++) {
        gsize len;
        const uint8_t *data = g_bytes_get_data(seeds->pdata[i], &len);
        run_once(data, len);
    }
    printf("%u seeds, %ld mutations, seed %u\n", seeds->len, mutate_until(seeds, seconds, seed), seed);
    return 0;
}
