#pragma once
/* src/host/openapi_schemas.json as text, embedded at build time. */

extern const char openapi_schemas[];
