//! `headwater config`, and where its values come from.

use super::User;

#[test]
fn a_good_configuration_is_said_to_be_good_and_nothing_is_made() {
    let user = User::new();
    let file = user.file("node.toml", include_str!("../../node.example.toml"));

    let said = user.ask(&["config", "check", "--config", &file]);
    assert_eq!(said, "the configuration is good\n");
    let ran = user.run_with(&[("HEADWATER_CONFIG", &file)], &["config", "check"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);

    assert_eq!(user.files(), ["node.toml"]);
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let user = User::new();
    let file = user.file(
        "node.toml",
        "relayr = true\nsegment = '2 parsecs'\nexternal_addr = ['/unix/a/tcp/1']\nlog = 'blah'\n",
    );
    let empty = user.file("password", "\n");
    let variables = [
        ("HEADWATER_RELAYER", "perhaps"),
        ("HEADWATER_HTTP", "8935"),
        ("HEADWATER_RELAYR", "1"),
        ("HEADWATER_PASSWORD_FILE", &empty),
    ];
    let flags = [
        "config",
        "check",
        "--config",
        &file,
        "--listen",
        "nonsense",
        "--bootstrap",
        "/ip4/1.2.3.4",
        "--transcoder",
        "--keystore",
        "nowhere.json",
        "--max-peers=-1",
    ];

    let ran = user.run_with(&variables, &flags);

    let errors = ran.errors(2);
    for place in [
        "HEADWATER_RELAYR: ".to_owned(),
        format!("{file}: relayr: "),
        "HEADWATER_RELAYER=perhaps: ".to_owned(),
        "--listen nonsense: ".to_owned(),
        "--bootstrap /ip4/1.2.3.4: ".to_owned(),
        format!("{file}: external_addr = \"/unix/a/tcp/1\": "),
        "--max-peers -1: ".to_owned(),
        "HEADWATER_HTTP=8935: ".to_owned(),
        "--transcoder yes: a transcoder needs a ledger".to_owned(),
        "--keystore nowhere.json: ".to_owned(),
        format!("HEADWATER_PASSWORD_FILE={empty}: it is empty"),
        format!("{file}: segment = \"2 parsecs\": "),
        format!("{file}: log = \"blah\": "),
    ] {
        let found = errors.iter().filter(|error| error.starts_with(&place));
        assert_eq!(found.count(), 1, "{place} in {errors:#?}");
    }
    assert_eq!(errors.len(), 13, "{errors:#?}");
}

#[test]
fn what_is_wrong_with_a_configuration_stops_a_node_too() {
    let user = User::new();
    for (flags, place) in [
        (&["--part", "9s"][..], "--part 9s: "),
        (&["--bootstrap", "nonsense"], "--bootstrap nonsense: "),
        (&["--transcoder"], "--transcoder yes: "),
        (&["--relayer=maybe"], "--relayer maybe: "),
        (&["--config", "none.toml"], "none.toml: No such file"),
        (&["--log", "blah"], "--log blah: a level is off, error"),
    ] {
        let ran = user.run(&[&["node"], flags].concat());
        assert!(ran.error(2).starts_with(place), "{}", ran.err);
    }
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn an_unknown_variable_stops_every_command() {
    let user = User::new();
    let book = user.book();
    for arguments in [
        &["completions", "bash"][..],
        &["job", "list", "--ledger", &book],
        &["status"],
        &["key", "show"],
        &["config", "show"],
    ] {
        let ran = user.run_with(&[("HEADWATER_LEDGERS", "x")], arguments);
        assert!(
            ran.error(2).starts_with("HEADWATER_LEDGERS: "),
            "{}",
            ran.err
        );
    }
    let known = [
        ("HEADWATER_LOG", "debug"),
        ("HEADWATER_LOG_FORMAT", "json"),
        ("HEADWATER_PORT_8935_TCP", "tcp://10.0.0.1:8935"),
    ];
    let ran = user.run_with(&known, &["completions", "bash"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

#[test]
fn flags_win_over_the_environment_over_the_file_and_each_is_named() {
    let user = User::new();
    let file = user.file(
        "node.toml",
        "part = '300ms'\nsegment = '4s'\nladder = '480p'\nmax_peers = 64\n\
         create_jobs = true\nlog = 'debug'\n",
    );
    let variables = [
        ("HEADWATER_PART", "250ms"),
        ("HEADWATER_SEGMENT", "3s"),
        ("HEADWATER_RELAYER", "1"),
    ];
    let flags = [
        "config",
        "show",
        "--config",
        &file,
        "--part",
        "100ms",
        "--no-create-jobs",
    ];

    let ran = user.run_with(&variables, &flags);

    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for line in [
        "part = \"100ms\"  # --part".to_owned(),
        "segment = \"3s\"  # HEADWATER_SEGMENT".to_owned(),
        format!("ladder = \"480p\"  # {file}"),
        format!("max_peers = 64  # {file}"),
        format!("log = \"debug\"  # {file}"),
        "relayer = true  # HEADWATER_RELAYER".to_owned(),
        "create_jobs = false  # --create-jobs".to_owned(),
        "http = \"127.0.0.1:8935\"".to_owned(),
        format!("data_dir = \"{}/.headwater\"", user.path("").display()).replace("//.", "/."),
    ] {
        assert!(ran.out.lines().any(|l| l == line), "{line} in\n{}", ran.out);
    }
    let shown = user.file("shown.toml", &ran.out);
    user.ask(&["config", "check", "--config", &shown]);
}

#[test]
fn a_stream_key_is_never_shown() {
    let user = User::new();
    let file = user.file("node.toml", "publish_key = ['a=secret77', 'b=secret78'");
    let cases = [
        user.run(&["config", "show", "--publish-key", "live=secret77"]),
        user.run(&["config", "check", "--publish-key", "live=secret77 "]),
        user.run(&["config", "check", "--publish-key", "secret77"]),
        user.run_with(
            &[("HEADWATER_PUBLISH_KEY", "LIVE=secret77")],
            &["config", "check"],
        ),
        user.run(&["config", "check", "--config", &file]),
    ];
    assert!(cases[0].out.contains("live=(hidden)"), "{}", cases[0].out);
    assert_eq!(cases[0].code, Some(0));
    for ran in &cases[1..] {
        ran.error(2);
    }
    for ran in &cases {
        assert!(!ran.out.contains("secret7"), "{}", ran.out);
        assert!(!ran.err.contains("secret7"), "{}", ran.err);
    }
}

#[test]
fn without_a_home_directory_one_has_to_be_named() {
    let user = User::new();
    for arguments in [&["node"][..], &["config", "check"], &["key", "show"]] {
        let output = user.command(arguments).env_remove("HOME").output();
        let ran = super::Ran::from(output.unwrap());
        assert!(ran.error(2).starts_with("--data-dir: "), "{}", ran.err);
    }
    let named = ["config", "check", "--data-dir", "here"];
    let output = user.command(&named).env_remove("HOME").output().unwrap();
    assert!(output.status.success());
    assert_eq!(user.files(), [""; 0]);
}
