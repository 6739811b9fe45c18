#include "host/host_config.h"

const struct config_key host_config_keys[] = {
    {.name = "listen", .type = CONFIG_STRING, .fallback = "127.0.0.1:8000",
     .help = "ADDRESS:PORT for the API; anyone who can reach it can submit, so keep it on loopback or behind a proxy"},
    {.name = "state_dir", .type = CONFIG_PATH, .fallback = "/var/lib/kohakuriver/host",
     .help = "folder of the database; made when missing"},
    {.name = "join_token_file", .type = CONFIG_PATH, .fallback = "",
     .help = "file with the token that runners join with; empty: join-token in state_dir, made when missing"},
    {.name = "heartbeat_ms", .type = CONFIG_INT, .fallback = "5000", .min = 100, .max = 600000,
     .help = "how often runners report, in milliseconds"},
    {.name = "offline_after_ms", .type = CONFIG_INT, .fallback = "30000", .min = 500, .max = 3600000,
     .help = "a node silent for this long is offline: its tasks are shown as lost, its GPUs stay held"},
    {.name = "log_level", .type = CONFIG_CHOICE, .fallback = "info", .choices = "error|warning|info|debug",
     .help = "what is logged"},
    {0},
};
