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
        int flags = (columns->align == TABLE_RIGHT ? SCOLS_FL_RIGHT : 0) | (columns->may_shrink ? SCOLS_FL_TRUNC : 0) |
                    (columns->wraps ? SCOLS_FL_WRAP : 0);
        struct libscols_column *made = scols_table_new_column(table->scols, columns->heading, 0, flags);
        must(made);
        if (columns->wraps) {
            scols_column_set_safechars(made, "\n");
            scols_column_set_wrapfunc(made, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL);
        }
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

static char *cut(const char *text, int max_chars) {
    g_autofree char *head = g_utf8_substring(text, 0, max_chars - 1);

    return g_strconcat(head, "…", NULL);
}

static char *wrap(const char *text, int max_chars) {
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    GString *wrapped = g_string_new(NULL);
    int column = 0;

    for (char **word = words; *word; word++) {
        int width = (int)g_utf8_strlen(*word, -1);
        bool breaks = column > 0 && column + 1 + width > max_chars;
        g_string_append_printf(wrapped, "%s%s", breaks ? "\n" : column > 0 ? " " : "", *word);
        column = breaks || column == 0 ? width : column + 1 + width;
    }
    return g_string_free(wrapped, FALSE);
}

void table_cell(struct table *table, const char *text) {
    g_autofree char *clean = cli_clean(text && text[0] ? text : "-"), *fitted = NULL;
    const struct table_column *column = &table->columns[table->cell];

    if (column->max_chars > 0 && g_utf8_strlen(clean, -1) > column->max_chars)
        fitted = column->wraps ? wrap(clean, column->max_chars) : cut(clean, column->max_chars);
    must(scols_line_set_data(table->line, table->cell++, fitted ? fitted : clean) == 0);
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
