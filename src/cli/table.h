#pragma once
/* Tables for people: columns fitted to the terminal, to 100 columns where there is none (a file, a pipe), so that what
 * a script sees does not depend on a window. Cells are cleaned of control characters. */

#include <stdbool.h>
#include <stddef.h>

struct table;

enum table_align { TABLE_LEFT = 0, TABLE_RIGHT = 1 };

struct table_column {
    const char *heading; /* NULL ends the list */
    enum table_align align;
    int max_chars;   /* longer texts are cut; 0: no limit */
    bool may_shrink; /* is cut further when the table is too wide; for one column, the last */
    bool wraps;      /* goes on below, at max_chars, between words, instead of being cut */
};

/* No headings are printed when `has_headings` is false (lists of facts, which are never cut). */
struct table *table_new(const struct table_column *columns, bool has_headings);
void table_free(struct table *table);
/* A new last row; then its cells one by one. "-" stands for a NULL or empty text. */
void table_row(struct table *table);
void table_cell(struct table *table, const char *text);
void table_cellf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The colour of the last row's last cell: "red", "green", "yellow"; shown on a terminal only. */
void table_colour(struct table *table, const char *colour);
void table_print(struct table *table);
