"""Writes dashboard.json. A dashboard of thirty panels is readable as this list and not as what Grafana keeps.

`python3 make_dashboard.py`; a test says when dashboard.json is not what this makes.
"""

import json
from pathlib import Path

NODE, PROXY = 'job="seam-node",namespace="$namespace"', 'job="seam-proxy",namespace="$namespace"'
BOTH = 'namespace="$namespace",job=~"seam-.*"'


def quantiles(metric, selector=NODE, by=""):
    legend = f"{{{{{by}}}}} " if by else ""
    group = f"le, {by}" if by else "le"
    return [(f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket{{{selector}}}[$__rate_interval])))", f"{legend}p{100 * float(q):.0f}")
            for q in ("0.5", "0.99")]


# Title, kind, unit, queries as (expression, legend), what it shows, width of 24.
ROWS = {
    "At a glance": [
        ("Can lose one node", "yesno", "none", [(f"max(seam_raft_can_lose_one{{{NODE}}})", "")], "Whether any single voter may stop now.", 4),
        ("Quorum", "yesno", "none", [(f"max(seam_raft_quorum{{{NODE}}})", "")], "Whether shares can be acknowledged.", 4),
        ("Nodes ready", "stat", "none", [(f"sum(seam_ready{{{NODE}}})", "")], "", 4),
        ("Sessions", "stat", "short", [(f"sum(seam_sessions{{{NODE}}})", "")], "Of all nodes, proxied ones included.", 4),
        ("Hashrate", "stat", "H/s", [(f"sum(rate(seam_share_work_total{{{NODE}}}[5m]))", "")], "From credited work.", 4),
        ("Rejected", "stat", "percentunit", [(f'sum(rate(seam_shares_total{{verdict="rejected",{NODE}}}[5m])) / sum(rate(seam_shares_total{{{NODE}}}[5m]))', "")], "Part of all submits, over five minutes.", 4),
    ],
    "Mining": [
        ("Sessions by node", "lines", "short", [(f"sum by (pod) (seam_sessions{{{NODE}}})", "{{pod}}")], "", 8),
        ("Hashrate by node", "lines", "H/s", [(f"sum by (pod) (rate(seam_share_work_total{{{NODE}}}[$__rate_interval]))", "{{pod}}")], "", 8),
        ("Shares by verdict and reason", "lines", "cps", [(f"sum by (verdict, reason) (rate(seam_shares_total{{{NODE}}}[$__rate_interval]))", "{{verdict}} {{reason}}")], "", 8),
        ("Submit to answer", "lines", "s", quantiles("seam_submit_seconds", BOTH, "job"), "As a node and as a proxy sees it.", 8),
        ("Tip to job", "lines", "s", quantiles("seam_tip_to_job_seconds", NODE, "kind"), "", 8),
        ("Notify: first to last session", "lines", "s", quantiles("seam_notify_fanout_seconds", BOTH, "job"), "", 8),
        ("Jobs by reason", "lines", "cps", [(f"sum by (reason) (rate(seam_jobs_total{{{NODE}}}[$__rate_interval]))", "{{reason}}")], "", 8),
        ("Templates", "lines", "s", quantiles("seam_template_seconds", NODE, "kind"), "", 8),
        ("Verify one share", "lines", "s", quantiles("seam_share_verify_seconds"), "", 8),
        ("Blocks in the ledger", "lines", "short", [(f"max by (status) (seam_ledger_blocks{{{NODE}}})", "{{status}}")], "", 8),
        ("Blocks found", "lines", "short", [(f"sum by (pod, result) (increase(seam_blocks_found_total{{{NODE}}}[1h]))", "{{pod}} {{result}}")], "In the last hour.", 8),
        ("Solved blocks not yet recorded", "lines", "short", [(f"sum by (pod) (seam_outbox_blocks{{{NODE}}})", "{{pod}}"), (f"max by (pod) (seam_outbox_oldest_seconds{{{NODE}}})", "{{pod}} oldest, s")], "", 8),
    ],
    "Ledger": [
        ("Commit", "lines", "s", quantiles("seam_commit_seconds"), "A batch from proposal to outcome.", 8),
        ("Log sync", "lines", "s", quantiles("seam_log_sync_seconds", NODE, "pod"), "", 8),
        ("Shares in a batch", "lines", "short", [(f"sum by (pod) (rate(seam_batch_shares_total{{{NODE}}}[$__rate_interval])) / (sum by (pod) (rate(seam_batches_total{{{NODE}}}[$__rate_interval])) > 0)", "{{pod}}")], "The mean.", 8),
        ("Leader", "lines", "none", [(f"seam_raft_leader{{{NODE}}}", "{{pod}}")], "", 8),
        ("Lag of members", "lines", "short", [(f"seam_raft_member_lag_entries{{{NODE}}}", "{{member}}")], "As the leader sees it.", 8),
        ("Log index", "lines", "short", [(f"seam_ledger_committed_index{{{NODE}}}", "{{pod}} committed"), (f"seam_ledger_applied_index{{{NODE}}}", "{{pod}} applied")], "", 8),
        ("Batches and shares", "lines", "cps", [(f"sum(rate(seam_batches_total{{{NODE}}}[$__rate_interval]))", "batches"), (f"sum(rate(seam_batch_retries_total{{{NODE}}}[$__rate_interval]))", "repeated"), (f"sum by (result) (rate(seam_batch_shares_total{{{NODE}}}[$__rate_interval]))", "shares {{result}}")], "", 8),
        ("Log and snapshot", "lines", "bytes", [(f"seam_ledger_log_bytes{{{NODE}}}", "{{pod}} log"), (f"seam_snapshot_bytes{{{NODE}}}", "{{pod}} snapshot")], "", 8),
        ("Traffic between members", "lines", "Bps", [(f"sum by (pod) (rate(seam_peer_bytes_total{{{NODE}}}[$__rate_interval]))", "{{pod}} sends")], "", 8),
    ],
    "Proxies": [
        ("Sessions by proxy", "lines", "short", [(f"sum by (pod) (seam_proxy_sessions{{{PROXY}}})", "{{pod}}"), (f"sum by (pod) (seam_proxy_sessions_held{{{PROXY}}})", "{{pod}} held")], "", 8),
        ("Sessions by node", "lines", "short", [(f"sum by (node) (seam_proxy_link_sessions{{{PROXY}}})", "{{node}}")], "", 8),
        ("Part of the ring", "lines", "percentunit", [(f"max by (node) (seam_proxy_ring_ratio{{{PROXY}}})", "{{node}}")], "", 8),
        ("Moves", "lines", "cps", [(f"sum by (reason, result) (rate(seam_proxy_moves_total{{{PROXY}}}[$__rate_interval]))", "{{reason}} {{result}}")], "", 8),
        ("Time without a node", "lines", "s", quantiles("seam_proxy_move_seconds", PROXY, "reason"), "Of sessions that moved.", 8),
        ("Traffic of links", "lines", "Bps", [(f"sum by (node, direction) (rate(seam_proxy_link_bytes_total{{{PROXY}}}[$__rate_interval]))", "{{node}} {{direction}}")], "", 8),
        ("Links lost", "lines", "short", [(f"sum by (node, reason) (increase(seam_proxy_link_losses_total{{{PROXY}}}[$__rate_interval]))", "{{node}} {{reason}}")], "", 8),
        ("Submits sent again", "lines", "cps", [(f"sum by (pod) (rate(seam_replayed_submits_total{{{PROXY}}}[$__rate_interval]))", "{{pod}}")], "", 8),
        ("Drains", "lines", "short", [(f"seam_drain_sessions{{{BOTH}}}", "{{pod}} left")], "Sessions still to hand over.", 8),
    ],
    "Chain": [
        ("Height", "lines", "none", [(f"seam_chain_height{{{NODE}}}", "{{pod}}"), (f"max(seam_chain_headers{{{NODE}}})", "headers")], "", 8),
        ("Sync", "lines", "percentunit", [(f"seam_chain_sync_ratio{{{NODE}}}", "{{pod}}")], "", 8),
        ("Peers", "lines", "short", [(f"sum by (pod, direction) (seam_chain_peers{{{NODE}}})", "{{pod}} {{direction}}")], "", 8),
    ],
    "Bounds": [
        ("Queues", "lines", "percentunit", [(f"max by (job, queue) (seam_queue_depth{{{BOTH}}} / (seam_queue_bound{{{BOTH}}} > 0))", "{{job}} {{queue}}")], "Depth over bound.", 8),
        ("Limits hit", "lines", "cps", [(f"sum by (job, limit) (rate(seam_limit_hits_total{{{BOTH}}}[$__rate_interval]))", "{{job}} {{limit}}")], "", 8),
        ("Bans", "lines", "short", [(f"sum by (pod) (seam_banned_addresses{{{BOTH}}})", "{{pod}}")], "", 8),
        ("Logins", "lines", "cps", [(f"sum by (result) (rate(seam_login_attempts_total{{{NODE}}}[$__rate_interval]))", "{{result}}")], "", 8),
        ("Bytes per session", "lines", "bytes", [(f"sum by (pod) (seam_session_memory_bytes{{{NODE}}}) / (sum by (pod) (seam_sessions{{{NODE}}}) > 0)", "{{pod}}"), (f"sum by (pod) (process_resident_memory_bytes{{{PROXY}}}) / (sum by (pod) (seam_proxy_sessions{{{PROXY}}}) > 0)", "{{pod}}, whole process")], "", 8),
        ("Memory", "lines", "bytes", [(f"process_resident_memory_bytes{{{BOTH}}}", "{{pod}}")], "", 8),
        ("Processor", "lines", "percentunit", [(f"rate(process_cpu_seconds_total{{{BOTH}}}[$__rate_interval])", "{{pod}}")], "Of one core.", 8),
        ("Disk left", "lines", "bytes", [(f"seam_disk_free_bytes{{{NODE}}}", "{{pod}}")], "", 8),
        ("Certificates end in", "lines", "s", [(f"min by (pod, certificate) ((seam_certificate_expiry_timestamp_seconds{{{BOTH}}} > 0) - time())", "{{pod}} {{certificate}}")], "", 8),
    ],
}

YES_NO = [{"type": "value", "options": {"0": {"text": "No", "color": "red"}, "1": {"text": "Yes", "color": "green"}}}]


def panel(number, place, title, kind, unit, queries, text, width):
    source = {"type": "prometheus", "uid": "${datasource}"}
    custom = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
    return {
        "id": number,
        "title": title,
        "description": text,
        "type": "timeseries" if kind == "lines" else "stat",
        "datasource": source,
        "gridPos": place | {"w": width, "h": 8 if kind == "lines" else 4},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, **({"custom": custom} if kind == "lines" else {}),
                                     **({"mappings": YES_NO} if kind == "yesno" else {})}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list", "placement": "bottom"}} if kind == "lines"
        else {"colorMode": "background" if kind == "yesno" else "value", "reduceOptions": {"calcs": ["lastNotNull"]}},
        "targets": [{"refId": chr(65 + i), "datasource": source, "expr": expr, "legendFormat": legend or "__auto"}
                    for i, (expr, legend) in enumerate(queries)],
    }


def dashboard():
    panels, number, y = [], 0, 0
    for row, list_ in ROWS.items():
        number += 1
        panels.append({"id": number, "type": "row", "title": row, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y, x, height = y + 1, 0, 0
        for title, kind, unit, queries, text, width in list_:
            if x + width > 24:
                x, y = 0, y + height
            number += 1
            made = panel(number, {"x": x, "y": y}, title, kind, unit, queries, text, width)
            panels.append(made)
            x, height = x + width, made["gridPos"]["h"]
        y += height
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"},
        {"name": "namespace", "type": "query", "label": "Namespace", "refresh": 2, "sort": 1,
         "datasource": {"type": "prometheus", "uid": "${datasource}"}, "definition": "label_values(seam_build_info, namespace)",
         "query": {"query": "label_values(seam_build_info, namespace)", "refId": "namespace"}},
    ]
    marks = [
        {"name": "Drains", "expr": f"max by (pod) (seam_draining{{{BOTH}}}) == 1", "iconColor": "orange", "title": "{{pod}} drains"},
        {"name": "New leader", "expr": f"max(changes(seam_raft_term{{{NODE}}}[1m])) > 0", "iconColor": "purple", "title": "new leader"},
    ]
    annotations = [{"name": m["name"], "enable": True, "datasource": {"type": "prometheus", "uid": "${datasource}"}, "expr": m["expr"],
                    "iconColor": m["iconColor"], "titleFormat": m["title"], "step": "15s"} for m in marks]
    return {"uid": "seam", "title": "Seam", "tags": ["seam"], "schemaVersion": 39, "version": 1, "editable": True, "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"}, "timezone": "", "graphTooltip": 1, "templating": {"list": variables},
            "annotations": {"list": annotations}, "panels": panels}


def text():
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "dashboard.json").write_text(text())
