#pragma once
/* The JSON of the Docker Engine API, both ways, as pure functions: nothing here talks to anybody. Answers come from
 * outside and are not trusted to have the right shape. Errors are KR_ERROR_BAD_REQUEST unless something else is said. */

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/engine.h"

enum { DOCKER_MAX_CONTAINERS = 20000 };

/* The body of POST /containers/create. Caller frees. */
char *docker_create_body(const struct engine_config *config);

/* {"Id":…}. Caller frees; NULL on failure. */
char *docker_parse_created(const char *text, size_t len, GError **error);

/* GET /containers/ID/json. New container or NULL. */
struct engine_container *docker_parse_inspect(const char *text, size_t len, GError **error);

/* GET /containers/json: a list of struct engine_container, which the array owns; NULL on failure. */
GPtrArray *docker_parse_list(const char *text, size_t len, GError **error);

/* GET /version: the API version to speak ("1.41": the lower of the engine's and ours) into ret_api, the engine's name and
 * version into ret_text, its bare version into ret_version; all three the caller's. KR_ERROR_REFUSED when engine and we
 * have no version in common. */
bool docker_parse_version(const char *text, size_t len, char **ret_api, char **ret_version, char **ret_text,
                          GError **error);

/* GET /info: number of CPUs; CDI device names ("nvidia.com/gpu=GPU-…") known to the engine; folders of CDI
 * specifications. The lists are NULL-terminated and the caller's. */
bool docker_parse_info(const char *text, size_t len, int *ret_cpus, char ***ret_cdi_devices, char ***ret_cdi_folders,
                       GError **error);

/* One line of what POST /images/create streams: false and *error, KR_ERROR_REFUSED, when it tells of a failure. Lines
 * that are no JSON are passed over. */
bool docker_parse_pull_line(const char *text, size_t len, GError **error);

/* The text of an error answer, {"message":"…"}, on one line and bounded; of anything else the status. Caller frees. */
char *docker_error_text(int status, const char *text, size_t len);

/* Filter for GET /containers/json, URL-encoded: {"label":["K=V",…]}. Caller frees. */
char *docker_label_filter(const char *const *labels);

/* "repo[:tag]" or "repo@digest" for POST /images/create: "fromImage=…&tag=…", URL-encoded. Caller frees. */
char *docker_pull_query(const char *image);
