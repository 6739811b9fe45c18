#pragma once
/* The verbs `qemu image …` and `qemu disk …`: what is done on a node by whoever administers it. They work on the folder that
 * the runner's settings name, also while the runner runs. They block, print results to stdout, and return false with an error. */

#include <glib.h>
#include <stdbool.h>

struct config;

bool image_tool_create(const struct config *config, char *const *options, char *const *args, GError **error);
bool image_tool_list(const struct config *config, char *const *options, char *const *args, GError **error);
bool image_tool_delete(const struct config *config, char *const *options, char *const *args, GError **error);
bool image_tool_disk_list(const struct config *config, char *const *options, char *const *args, GError **error);
bool image_tool_disk_delete(const struct config *config, char *const *options, char *const *args, GError **error);
