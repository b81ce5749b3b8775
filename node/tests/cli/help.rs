//! What the program says of itself.

use super::User;

#[test]
fn every_command_explains_itself() {
    let user = User::new();
    for (command, expected) in [
        ("", "--log-format"),
        ("node", "--max-peers"),
        ("demo", "--duration"),
        ("publish", "--loop"),
        ("watch", "--output"),
        ("status", "--admin"),
        ("key", "import"),
        ("key new", "--keystore"),
        ("key show", "--data-dir"),
        ("key import", "<FILE>"),
        ("job", "reassign"),
        ("job create", "--max-price"),
        ("job list", "--all"),
        ("job show", "<JOB>"),
        ("job reassign", "<JOB>"),
        ("job end", "<JOB>"),
        ("ledger", "unregister"),
        ("ledger register", "--stake"),
        ("ledger unregister", "--address"),
        ("ledger show", "--json"),
        ("config", "check"),
        ("config check", "--reconnect-window"),
        ("config show", "--no-create-jobs"),
        ("completions", "<SHELL>"),
    ] {
        let path: Vec<_> = command.split_whitespace().collect();
        let help = user.ask(&[&path[..], &["--help"]].concat());
        let usage = format!("Usage: headwater {command}");
        assert!(help.contains(usage.trim_end()), "{help}");
        assert!(help.contains(expected), "{expected} in {help}");
    }
}

#[test]
fn the_version_is_the_package_s() {
    let version = User::new().ask(&["--version"]);
    assert_eq!(
        version,
        concat!("headwater ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn no_command_and_unknown_ones_are_usage_errors() {
    let user = User::new();
    let ran = user.run(&[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("Usage: headwater"), "{}", ran.err);
    for arguments in [
        &["nodes"][..],
        &["node", "--relayr"],
        &["node", "--create-jobs", "--no-create-jobs"],
        &["--log-format", "xml", "completions", "bash"],
        &["status", "nonsense"],
        &["demo", "--http", "8935"],
        &["demo", "--ladder", "999p"],
        &["demo", "--duration", "long"],
    ] {
        user.run(arguments).errors(2);
    }
}

#[test]
fn completions_know_every_flag_in_every_shell() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = user.ask(&["completions", shell]);
        for word in ["headwater", "reassign", "max-peers", "no-create-jobs"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    user.run(&["completions", "cmd"]).errors(2);
}

#[test]
fn nobody_at_the_admin_address_is_said_with_the_flag_to_change() {
    let user = User::new();
    // A port that was just free, and that nobody else is given while it is held.
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let admin = held.local_addr().unwrap().to_string();
    for ran in [
        user.run(&["status", "--admin", &admin]),
        user.run_with(&[("HEADWATER_ADMIN", &admin)], &["status"]),
    ] {
        let error = ran.error(1);
        assert!(
            error.contains(&admin) && error.contains("--admin"),
            "{error}"
        );
    }
    let ran = user.run_with(&[("HEADWATER_ADMIN", "7935")], &["status"]);
    assert!(
        ran.error(2).starts_with("HEADWATER_ADMIN=7935: "),
        "{}",
        ran.err
    );
}
