//! What monitors read, read back as strictly as they would.

use std::collections::BTreeSet;

use headwater_proto::{BroadcastId, ManifestId, Position, SigningKey};

use super::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn view(number: u8) -> StreamView {
    let node = key(1).node_id();
    let broadcast = BroadcastId::from_bytes([number; 16]);
    StreamView {
        stream: ManifestId { node, broadcast }.source(),
        owned: false,
        edge: Some(Position {
            segment: 41,
            part: 3,
        }),
        parent: Some(key(2).node_id()),
        live: true,
        children: vec![key(3).node_id()],
        standby: None,
        depth: 3,
        delivered: true,
        finished: false,
        ring_bytes: 1000,
    }
}

fn peer(seed: u8, agent: &str) -> PeerInfo {
    PeerInfo {
        peer: key(seed).node_id(),
        roles: Roles {
            relayer: true,
            ..Roles::default()
        },
        agent: agent.to_owned(),
        address: "/ip4/192.0.2.1/tcp/4935".to_owned(),
        outbound: true,
        since_ms: 1_800_000_000_000,
        round_trip: Some(std::time::Duration::from_micros(1500)),
        bytes_in: 1000,
        bytes_out: 2000,
        skipped: 1,
    }
}

fn text(streams: Vec<StreamView>, peers: &[PeerInfo]) -> String {
    let about = About {
        roles: Roles::default(),
        agent: "headwater/test".to_owned(),
        started: clock::now(),
    };
    let mut snapshot = Snapshot {
        streams,
        ..Snapshot::default()
    };
    snapshot.stats.violations.insert("empty gap", 2);
    snapshot.stats.violations.insert("second hello", 1);
    let traffic = Traffic::default();
    let media = crate::http::traffic::Class::Media;
    traffic.public.answered(media, 200);
    traffic.public.answered(media, 410);
    let receipts = ReceiptCounts {
        received: 7,
        bad: 1,
        waiting: 2,
    };
    let ledger = LedgerReport {
        state: LedgerState::Unreachable("nobody answers".into()),
        settled: Some(12),
        endpoints: vec![EndpointStatus {
            endpoint: "wss://chain.example:443".into(),
            healthy: false,
            failures: 1,
            head: Some(14),
            requests: 9,
            errors: 2,
            last_error: None,
        }],
        pending: Some(1),
    };
    write(
        &about,
        &snapshot,
        peers,
        &traffic,
        Some(receipts),
        Some(&ledger),
    )
}

/// One sample's name and labels, as the text form writes them.
fn sample(line: &str) -> (&str, Vec<(String, String)>) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    value.parse::<u64>().unwrap();
    let Some((name, rest)) = series.split_once('{') else {
        return (series, vec![]);
    };
    let mut symbols = rest.strip_suffix('}').unwrap().chars().peekable();
    let mut labels = Vec::new();
    while symbols.peek().is_some() {
        let label: String = symbols.by_ref().take_while(|s| *s != '=').collect();
        let known = |s: char| s.is_ascii_lowercase() || s == '_';
        assert!(!label.is_empty() && label.chars().all(known), "{line}");
        assert_eq!(symbols.next(), Some('"'), "{line}");
        let mut value = String::new();
        loop {
            match symbols.next().unwrap() {
                '"' => break,
                '\\' => value.push(match symbols.next().unwrap() {
                    'n' => '\n',
                    other => other,
                }),
                other => value.push(other),
            }
        }
        labels.push((label, value));
        assert!(matches!(symbols.next(), Some(',') | None), "{line}");
    }
    (name, labels)
}

/// Reads the text as a monitor would; panics where one would complain.
fn parse(text: &str) -> BTreeSet<(String, Vec<(String, String)>)> {
    let body = text.strip_suffix("# EOF\n").unwrap();
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        let declared = line.strip_prefix("# TYPE ").unwrap();
        let (family, kind) = declared.split_once(' ').unwrap();
        assert!(families.insert(family.to_owned()), "twice: {family}");
        let help = lines.next().unwrap();
        assert!(help.starts_with(&format!("# HELP {family} ")), "{help}");
        let suffix = match kind {
            "counter" => "_total",
            "gauge" => "",
            "info" => "_info",
            other => panic!("{other}"),
        };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, labels) = sample(line);
            assert_eq!(name, format!("{family}{suffix}"));
            assert!(series.insert((name.to_owned(), labels)), "twice: {line}");
        }
    }
    series
}

fn labels(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
    of.iter().map(owned).collect()
}

#[test]
fn monitors_can_read_it_whatever_neighbours_call_themselves() {
    let name = "odd \"agent\"\\\n{} 1\u{7}";
    let text = text(vec![view(1), view(2)], &[peer(2, name), peer(3, "plain")]);

    let series = parse(&text);

    let agents: Vec<_> = series
        .iter()
        .filter(|(name, _)| name == "headwater_peer_info")
        .map(|(_, labels)| labels[2].1.as_str())
        .collect();
    assert!(
        agents.contains(&"odd \"agent\"\\\n{} 1\u{fffd}"),
        "{agents:?}"
    );
    let violation = labels(&[("kind", "empty gap")]);
    assert!(series.contains(&("headwater_violations_total".to_owned(), violation)));
    let gone = labels(&[
        ("listener", "public"),
        ("class", "media"),
        ("status", "4xx"),
    ]);
    assert!(series.contains(&("headwater_http_requests_total".to_owned(), gone)));
}

#[test]
fn neighbours_are_told_with_the_streams_they_carry() {
    let text = text(vec![view(1), view(2)], &[peer(2, "a"), peer(3, "b")]);
    let (parent, child) = (key(2).node_id(), key(3).node_id());
    for line in [
        format!("headwater_peer_streams_from{{peer=\"{parent}\"}} 2\n"),
        format!("headwater_peer_streams_from{{peer=\"{child}\"}} 0\n"),
        format!("headwater_peer_streams_to{{peer=\"{child}\"}} 2\n"),
        format!(
            "headwater_stream_newest_segment{{stream=\"{}\",owned=\"false\"}} 41\n",
            view(2).stream
        ),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn a_transcoder_tells_what_it_is_owed() {
    let text = text(vec![], &[]);
    for line in ["received_total 7", "bad_total 1", "waiting 2"] {
        let line = format!("\nheadwater_receipts_{line}\n");
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn a_chain_is_told_by_its_endpoints() {
    let text = text(vec![], &[]);
    let endpoint = "{endpoint=\"wss://chain.example:443\"}";
    for line in [
        "settled_block 12".to_owned(),
        "transactions_pending 1".to_owned(),
        format!("endpoint_up{endpoint} 0"),
        format!("endpoint_head{endpoint} 14"),
        format!("endpoint_requests_total{endpoint} 9"),
        format!("endpoint_errors_total{endpoint} 2"),
    ] {
        let line = format!("\nheadwater_chain_{line}\n");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(text.contains("\nheadwater_ledger_open 0\n"), "{text}");
}

#[test]
fn series_are_bounded() {
    let streams = (0..=u8::MAX).map(view).collect();
    let peers: Vec<_> = (0..=u8::MAX).map(|seed| peer(seed, "x")).collect();
    let text = text(streams, &peers);

    let series = parse(&text);

    let of = |name: &str| series.iter().filter(|(known, _)| known == name).count();
    assert_eq!(of("headwater_stream_live"), MAX_STREAMS);
    assert!(of("headwater_peer_info") <= MAX_PEERS);
    assert!(text.contains("headwater_streams 256\n"));
}
