#pragma once
/* GET /metrics: the cluster as Prometheus reads it (text format 0.0.4). Figures of cards have the names, units and labels of NVIDIA's
 * dcgm-exporter, so that dashboards made for it work; who holds what, states, health, nodes and tasks are ours
 * (kohakuriver_…). A figure that is not known, or whose node is silent, is absent: never stale, never 0. */

#include <glib.h>

#include "core/controller.h"

struct http_exchange;

/* Appends everything that the controller knows. */
void metrics_add_cluster(GString *text, struct controller *controller, struct core_time now);
/* Appends what concerns this process. */
void metrics_add_process(GString *text);

void api_metrics(struct http_exchange *x, void *app);
