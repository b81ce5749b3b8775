//! `headwater watch`, where it cannot watch.

use super::{User, broadcast};

#[test]
fn bad_ids_and_addresses_are_refused_with_what_is_accepted() {
    let user = User::new();
    let id = broadcast(1);
    let relay = "/ip4/127.0.0.1/tcp/4935";
    for (arguments, named) in [
        (
            &["watch", "nonsense", "--bootstrap", relay][..],
            "'nonsense' for '<ID>'",
        ),
        (
            &["watch", &id[..id.len() - 1], "--bootstrap", relay],
            "for '<ID>'",
        ),
        (
            &["watch", &id, "--bootstrap", "nonsense"],
            "/ip4/192.0.2.1/tcp/4935",
        ),
        (
            &["watch", &id, "--bootstrap", "/unix/a/tcp/1"],
            "/ip4/ADDRESS",
        ),
        (
            &["watch", &id, "--bootstrap", relay, "--http", "8935"],
            "IP:PORT",
        ),
    ] {
        let ran = user.run(arguments);
        assert!(ran.error(2).contains(named), "{named} in {}", ran.err);
    }
    let ran = user.run(&["watch", &id]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--bootstrap <MULTIADDR>"), "{}", ran.err);
}

#[test]
fn a_file_that_cannot_be_written_is_named_before_anything_is_awaited() {
    let user = User::new();
    for id in [broadcast(1), format!("{}.source", broadcast(1))] {
        let ran = user.run(&[
            "watch",
            &id,
            "--bootstrap",
            "/ip4/127.0.0.1/tcp/4935",
            "--output",
            "nowhere/film.mp4",
        ]);
        let error = ran.error(1);
        assert!(
            error.starts_with("cannot write nowhere/film.mp4"),
            "{error}"
        );
    }
}
