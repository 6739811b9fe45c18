#include "cli/table.h"

#include <glib.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"

enum { WIDTH_WITHOUT_TERMINAL = 100 };

struct table {
    const struct table_column *columns; /* borrowed, static */
    struct libscols_table *scols;
    struct libscols_line *line;
    size_t cell; /* the next one of `line` */
};

/* libsmartcols fails for lack of memory alone. */
static void must(bool ok) {
    if (!ok)
        g_error("out of memory");
}

struct table *table_new(const struct table_column *columns, bool has_headings) {
    struct table *table = g_new0(struct table, 1);

    table->columns = columns;
    table->scols = scols_new_table();
    must(table->scols);
    scols_table_enable_noheadings(table->scols, !has_headings);
    scols_table_set_column_separator(table->scols, "  ");
    if (isatty(STDOUT_FILENO)) {
        scols_table_enable_colors(table->scols, 1);
    } else if (has_headings) {
        scols_table_set_termforce(table->scols, SCOLS_TERMFORCE_ALWAYS);
        scols_table_set_termwidth(table->scols, WIDTH_WITHOUT_TERMINAL);
    }
    for (; columns->heading; columns++) {
        int flags = (columns->align == TABLE_RIGHT ? SCOLS_FL_RIGHT : 0) | (columns->may_shrink ? SCOLS_FL_TRUNC : 0);
        must(scols_table_new_column(table->scols, columns->heading, 0, flags));
    }
    return table;
}

void table_free(struct table *table) {
    if (!table)
        return;
    scols_unref_table(table->scols);
    g_free(table);
}

void table_row(struct table *table) {
    table->line = scols_table_new_line(table->scols, NULL);
    must(table->line);
    table->cell = 0;
}

void table_cell(struct table *table, const char *text) {
    g_autofree char *clean = cli_clean(text && text[0] ? text : "-");
    int max_chars = table->columns[table->cell].max_chars;

    if (max_chars > 0 && g_utf8_strlen(clean, -1) > max_chars) {
        g_autofree char *head = g_utf8_substring(clean, 0, max_chars - 1);
        g_free(clean);
        clean = g_strconcat(head, "…", NULL);
    }
    must(scols_line_set_data(table->line, table->cell++, clean) == 0);
}

void table_cellf(struct table *table, const char *format, ...) {
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    table_cell(table, text);
}

void table_colour(struct table *table, const char *colour) {
    if (colour)
        scols_cell_set_color(scols_line_get_cell(table->line, table->cell - 1), colour);
}

void table_print(struct table *table) { scols_print_table(table->scols); }
