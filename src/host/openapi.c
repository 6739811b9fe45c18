/* GET /api/v1/openapi.json, made from the route table and the schemas that are embedded in the program. */

#include <string.h>

#include "base/json.h"
#include "host/host_internal.h"
#include "host/openapi_schemas.h"
#include "model/wire.h"

static json_t *parameter(const char *name, const char *in, const char *type, const char *help, bool required) {
    json_t *json = json_pack("{s:s,s:s,s:b,s:{s:s}}", "name", name, "in", in, "required", required, "schema", "type",
                             type);

    if (help)
        json_object_set_new(json, "description", json_string(help));
    return json;
}

static json_t *parameters(const struct http_route *route) {
    json_t *list = json_array();

    for (const char *open = strchr(route->path, '{'); open; open = strchr(open + 1, '{')) {
        g_autofree char *name = g_strndup(open + 1, strcspn(open + 1, "}"));
        json_array_append_new(list,
                              parameter(name, "path", strcmp(name, "id") == 0 ? "integer" : "string", NULL, true));
    }
    for (const struct http_param *param = route->query; param && param->name; param++)
        json_array_append_new(list, parameter(param->name, "query", param->type, param->help, false));
    return list;
}

static json_t *content(const char *schema) {
    g_autofree char *ref = g_strconcat("#/components/schemas/", schema, NULL);

    return json_pack("{s:{s:{s:s}}}", "application/json", "schema", "$ref", ref);
}

static json_t *responses(const struct http_route *route) {
    g_autofree char *status = g_strdup_printf("%d", route->success_status);
    json_t *success = json_pack("{s:s}", "description", route->summary);

    if (route->response_schema)
        json_object_set_new(success, "content", content(route->response_schema));
    else if (route->success_status == 200)
        json_object_set_new(success, "content", json_pack("{s:{}}", "application/octet-stream"));
    return json_pack("{s:o,s:{s:s,s:o}}", status, success, "default", "description", "An error", "content",
                     content("Error"));
}

static json_t *operation(const struct http_route *route) {
    json_t *json = json_pack("{s:s,s:s,s:o,s:o}", "operationId", route->operation, "summary", route->summary,
                             "parameters", parameters(route), "responses", responses(route));

    if (route->request_schema)
        json_object_set_new(json, "requestBody",
                            json_pack("{s:b,s:o}", "required", 1, "content", content(route->request_schema)));
    return json;
}

json_t *openapi_document(const struct http_route *routes) {
    json_t *paths = json_object();
    json_t *schemas = jsonx_parse(openapi_schemas, strlen(openapi_schemas), NULL);

    g_assert(schemas);
    for (const struct http_route *route = routes; route->method; route++) {
        g_autofree char *method = g_ascii_strdown(route->method, -1);
        if (!json_object_get(paths, route->path))
            json_object_set_new(paths, route->path, json_object());
        json_object_set_new(json_object_get(paths, route->path), method, operation(route));
    }
    return json_pack("{s:s,s:{s:s,s:s,s:{s:s}},s:o,s:{s:o}}", "openapi", "3.0.3", "info", "title", "KohakuRiver",
                     "version", KR_VERSION, "license", "name", "Apache-2.0", "paths", paths, "components", "schemas",
                     schemas);
}

void api_openapi(struct http_exchange *x, void *app) {
    (void)app;
    http_reply_json(x, 200, openapi_document(host_routes));
}

void api_version(struct http_exchange *x, void *app) {
    const struct host *host = app;

    http_reply_json(
        x, 200,
        json_pack("{s:s,s:s,s:i}", "version", KR_VERSION, "cluster_id", host->cluster_id, "protocol", WIRE_PROTOCOL));
}
