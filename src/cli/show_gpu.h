#pragma once
/* Pieces of text and cells made of a GPU as the API shows it: the same in every verb. Figures that are absent are "-". */

#include <jansson.h>

#include "cli/table.h"

const char *show_gpu_suffix(const char *uuid);  /* its last 8 characters; borrowed */
const char *show_gpu_model(const char *name);   /* without the vendor's name where that says nothing; borrowed */
const char *show_gpu_state(const json_t *gpu);  /* "in use"; never NULL */
const char *show_gpu_colour(const char *state); /* of that text; static */
/* "task 70 (2h 5m) alice@laptop train.py"; NULL when nobody holds it. g_free. */
char *show_gpu_holder(const json_t *gpu);

void cell_of_figure(struct table *table, const json_t *gpu, const char *key, const char *unit);
void cell_of_memory(struct table *table, const json_t *gpu); /* "70.0/80.0" GiB */
void cell_of_power(struct table *table, const json_t *gpu);  /* "690/700 W" */
