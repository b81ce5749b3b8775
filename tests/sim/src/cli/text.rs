//! A report for people.

use std::fmt::Write as _;

use crate::{histogram::Summary, report::Report};

/// Breaches that are shown.
const SHOWN: usize = 5;

/// The few lines that matter.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing into a String can't fail.
        let _written = writeln!(text, "{name:<22} {value}");
    };
    line("trace", report.trace_hash.clone());
    let seconds = report.simulated_ms / 1000;
    line(
        "world",
        format!(
            "{} nodes, {} links, {seconds} s in {:.1} s; {} inputs",
            report.nodes,
            report.links,
            report.wall_s,
            report.inputs.values().sum::<u64>()
        ),
    );
    let (never, hosts) = (report.never_played, &report.never_hosts);
    line(
        "delivered",
        format!(
            "{:.4} of the parts; {} stays, {never} never played {hosts:?}, {} parts lost",
            report.delivered_ratio, report.sessions, report.gap_parts
        ),
    );
    line("hops", figures(&report.hops, ""));
    line("depth at the end", figures(&report.depth, ""));
    line("join", figures(&report.join_ms, " ms"));
    line("delay", figures(&report.delay_ms, " ms"));
    if report.direct_ms.count > 0 {
        line("job to direct feed", figures(&report.direct_ms, " ms"));
    }
    if report.resumed_ms.count > 0 {
        line("broadcast to job again", figures(&report.resumed_ms, " ms"));
    }
    if report.recovery_ms.times.count + report.recovery_ms.lost > 0 {
        let recovery = &report.recovery_ms;
        line("recovery", figures(&recovery.times, " ms"));
        line(
            "back within 5 s",
            format!(
                "{:.4}; {} not back at all {:?}",
                recovery.within_5s, recovery.lost, recovery.lost_hosts
            ),
        );
    }
    line("control bytes", percent(report.control_bytes_ratio));
    line(
        "control messages",
        format!(
            "at most {} of one node in a second",
            report.control_messages_per_second_max
        ),
    );
    line("duplicate bytes", percent(report.duplicate_bytes_ratio));
    line(
        "broadcaster uplink",
        format!("{:.3} copies", report.broadcaster_uplink_ratio),
    );
    line("relays without viewer", percent(report.unpaid_ratio));
    if report.violations > 0 {
        line(
            "hostile nodes",
            format!(
                "{} misdeeds noticed, {:.3} bytes answered for each sent",
                report.violations, report.hostile_answer_ratio
            ),
        );
    }
    line(
        "cores wanted",
        format!(
            "{} redirects, {} dials, {} lookups, {} repairs; {} spare links closed",
            report.redirects, report.dials, report.lookups, report.nacks, report.spare_links_closed
        ),
    );
    line(
        "breaches",
        format!(
            "{}; {} loops came and went",
            report.breaches, report.passing_loops
        ),
    );
    for breach in report.first_breaches.iter().take(SHOWN) {
        line("", format!("{breach:?}"));
    }
    text.trim_end().to_owned()
}

fn figures(summary: &Summary, unit: &str) -> String {
    format!(
        "mean {}{unit}, p50 {}{unit}, p99 {}{unit}, max {}{unit} of {}",
        summary.mean, summary.p50, summary.p99, summary.max, summary.count
    )
}

fn percent(ratio: f64) -> String {
    format!("{:.3} %", ratio * 100.0)
}
