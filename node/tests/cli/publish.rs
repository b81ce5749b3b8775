//! `headwater publish`, where there is nothing to send or nowhere to send it.

use super::User;

#[test]
fn a_missing_file_is_named() {
    let ran = User::new().run(&["publish", "nowhere.mp4", "--to", "rtmp://127.0.0.1/live/x"]);
    assert!(ran.error(1).contains("nowhere.mp4"), "{}", ran.err);
}

#[test]
fn an_address_is_refused_without_repeating_the_key_in_it() {
    let user = User::new();
    let film = user.file("film.mp4", "");
    for address in [
        "http://127.0.0.1/live/secret77",
        "rtmp://127.0.0.1:port/live/secret77",
        "rtmp:/127.0.0.1/live/secret77",
        "secret77",
    ] {
        let ran = user.run(&["publish", &film, "--to", address]);
        let error = ran.error(2);
        assert!(error.contains("rtmp://127.0.0.1/live/KEY"), "{error}");
        assert!(!ran.err.contains("secret77"), "{}", ran.err);
    }
}
