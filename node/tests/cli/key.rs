//! `headwater key`.

use std::os::unix::fs::PermissionsExt as _;

use super::{User, text};

/// The first account of the usual development mnemonic.
const SECRET: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ADDRESS: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

#[test]
fn a_new_key_is_shown_again_with_its_password_only() {
    let user = User::new();
    let (password, wrong) = (user.file("password", "right\n"), user.file("wrong", "no\n"));
    let keystore = text(&user.path("keys/eth.json"));
    let at = ["--keystore", &keystore, "--password-file", &password];

    let made = user.ask(&[&["key", "new"], &at[..]].concat());
    let shown = user.ask(&[&["key", "show"], &at[..]].concat());

    let address = made.lines().next().unwrap();
    assert!(address.starts_with("address: 0x"), "{made}");
    assert_eq!(shown.trim_end(), address);
    let mode = user.path("keys/eth.json").metadata().unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let again = user.run(&[&["key", "new"], &at[..]].concat());
    assert!(again.error(1).contains("not overwritten"), "{}", again.err);
    let refused = user.run(&[
        "key",
        "show",
        "--keystore",
        &keystore,
        "--password-file",
        &wrong,
    ]);
    assert!(refused.error(1).contains("eth.json"), "{}", refused.err);
}

#[test]
fn an_imported_key_has_the_address_every_wallet_shows() {
    let user = User::new();
    let (password, key) = (user.file("password", "pw\n"), user.file("hex", SECRET));
    let keystore = text(&user.path("eth.json"));
    let at = ["--keystore", &keystore, "--password-file", &password];

    let said = user.ask(&[&["key", "import", &key], &at[..]].concat());

    assert!(said.starts_with(&format!("address: {ADDRESS}\n")), "{said}");
    assert!(!std::fs::read_to_string(&keystore).unwrap().contains(SECRET));
    let broken = user.file("broken", &SECRET.replace("ac", "+c"));
    let other = text(&user.path("other.json"));
    let at = ["--keystore", &other, "--password-file", &password];
    let ran = user.run(&[&["key", "import", &broken], &at[..]].concat());
    assert!(ran.error(1).contains("64 hex digits"), "{}", ran.err);
    assert!(!ran.err.contains("c0974bec"), "{}", ran.err);
    assert!(!user.path("other.json").exists());
}

#[test]
fn an_empty_password_is_refused() {
    let user = User::new();
    let key = user.file("hex", SECRET);
    for empty in ["", "\n"] {
        let password = user.file("password", empty);
        let at = ["--keystore", "eth.json", "--password-file", &password];
        for command in [&["key", "new"][..], &["key", "import", &key]] {
            let ran = user.run(&[command, &at[..]].concat());
            assert!(ran.error(1).contains("is empty"), "{}", ran.err);
        }
    }
    assert!(!user.path("eth.json").exists());
    let ran = user.run(&[
        "key",
        "new",
        "--keystore",
        "a",
        "--password-file",
        "nowhere",
    ]);
    assert!(ran.error(1).contains("nowhere"), "{}", ran.err);
}

#[test]
fn showing_the_id_of_no_node_makes_none() {
    let user = User::new();

    let ran = user.run(&["key", "show", "--data-dir", "nowhere"]);
    assert!(ran.error(1).contains("nowhere/node.key"), "{}", ran.err);
    let ran = user.run(&["key", "show"]);
    assert!(ran.error(1).contains("/.headwater/node.key"), "{}", ran.err);

    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn the_id_of_a_node_is_that_of_its_key_file() {
    let user = User::new();
    std::fs::create_dir(user.path("data")).unwrap();
    user.file("data/node.key", &format!("{}\n", "0f".repeat(32)));

    let flag = user.ask(&["key", "show", "--data-dir", "data"]);
    let variable = user.run_with(&[("HEADWATER_DATA_DIR", "data")], &["key", "show"]);

    assert!(flag.starts_with("node: 12D3KooW"), "{flag}");
    assert_eq!(variable.out, flag);
    user.file("data/node.key", &"+f".repeat(32));
    let ran = user.run(&["key", "show", "--data-dir", "data"]);
    assert!(ran.error(1).contains("is no node key"), "{}", ran.err);
}
