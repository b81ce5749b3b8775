//! `headwater node` as it runs, and what it finds when it starts again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
};

use super::{User, text};

/// A running node, which is killed when it is dropped.
struct Running {
    child: Child,
    id: String,
    publish: Option<String>,
    player: String,
    admin: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then the test has said so.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A node that nobody knows.
const STRANGER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

const LOCAL: [&str; 10] = [
    "node",
    "--data-dir=data",
    "--listen=/ip4/127.0.0.1/tcp/0",
    "--http=127.0.0.1:0",
    "--admin=127.0.0.1:0",
    "--rtmp=127.0.0.1:0",
    "--broadcaster",
    "--config=node.toml",
    "--relayer=no",
    "--max-peers=16",
];

/// The host and port of a URL.
fn host(url: &str) -> String {
    url.split('/').nth(2).unwrap().to_owned()
}

/// Starts a node and waits until it has said everything.
fn start(user: &User) -> Running {
    let log = File::create(user.path("log")).unwrap();
    let mut command = user.command(&LOCAL);
    let mut child = command.stderr(Stdio::from(log)).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut node = Running {
        child,
        id: String::new(),
        publish: None,
        player: String::new(),
        admin: String::new(),
    };
    for line in lines {
        let line = line.unwrap();
        match line.split_once(": ").unwrap() {
            ("node", id) => node.id = id.to_owned(),
            ("publish live", url) => node.publish = Some(url.to_owned()),
            ("player", url) => node.player = host(url),
            ("admin", url) => {
                node.admin = host(url);
                return node;
            }
            _ => {}
        }
    }
    panic!(
        "it ended: {}",
        std::fs::read_to_string(user.path("log")).unwrap()
    );
}

#[test]
fn a_node_that_runs_can_be_asked_for_its_id() {
    let user = User::new();
    user.file("node.toml", "log = 'warn'\n");
    let node = start(&user);

    let shown = user.ask(&["key", "show", "--data-dir", "data"]);

    assert_eq!(shown, format!("node: {}\n", node.id));
}

#[test]
fn status_says_what_to_do_when_there_is_none() {
    let user = User::new();
    user.file("node.toml", "");
    let node = start(&user);

    let ran = user.run(&["status", "--admin", &node.player]);
    let error = ran.error(1);
    assert!(error.contains("is --admin right?"), "{error}");

    let ran = user.run(&["status", STRANGER, "--admin", &node.admin]);
    let error = ran.error(1);
    assert!(
        error.contains("no answer: this node has no links"),
        "{error}"
    );
    assert!(error.contains("the node may be down"), "{error}");
}

#[test]
fn identity_and_stream_key_outlive_kill_9_and_the_log_is_as_the_file_says() {
    let user = User::new();
    user.file(
        "node.toml",
        "log = 'headwater=trace,libp2p_swarm=trace,libp2p_tcp=trace'\nlog_format = 'json'\n",
    );
    let first = start(&user);
    let (id, publish) = (first.id.clone(), first.publish.clone());
    drop(first);
    let log = std::fs::read_to_string(user.path("log")).unwrap();
    assert!(!log.is_empty());
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(entry["level"].is_string(), "{line}");
    }

    let second = start(&user);

    assert_eq!(second.id, id);
    let key = |url: &Option<String>| {
        url.as_deref()
            .unwrap()
            .rsplit_once('/')
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(key(&second.publish), key(&publish));
    assert!(!log.contains(&key(&publish)), "the key is in the log");
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    let user = User::new();
    user.file("node.toml", "log = 'warn'\n");
    drop(start(&user));
    let log = || std::fs::read_to_string(user.path("log")).unwrap();
    assert_eq!(log(), "");
    let all = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(user.path("data/node.key"), all).unwrap();

    drop(start(&user));

    assert!(
        log().contains("data/node.key") && log().contains("chmod 600"),
        "{}",
        log()
    );
}

#[test]
fn a_damaged_database_is_refused_with_what_to_do() {
    let user = User::new();
    user.file("node.toml", "");
    let id = start(&user).id.clone();
    std::fs::write(user.path("data/db/db"), "garbage".repeat(1000)).unwrap();

    let ran = user.run(&LOCAL);
    let error = ran.error(1);
    assert!(error.contains("data/db is damaged"), "{error}");
    assert!(error.contains("move it away"), "{error}");

    std::fs::rename(user.path("data/db"), user.path("db.old")).unwrap();
    assert_eq!(start(&user).id, id);
}

#[test]
fn a_key_without_a_password_is_made_only_where_none_was_named() {
    let user = User::new();
    user.file(
        "node.toml",
        "transcoder = true\nledger = 'file:jobs.book'\n",
    );
    drop(start(&user));
    let keystore = text(&user.path("data/ethereum.json"));
    let address = user.ask(&["key", "show", "--keystore", &keystore]);
    assert!(address.starts_with("address: 0x"), "{address}");

    let named = "transcoder = true\nledger = 'file:jobs.book'\nkeystore = 'typo.json'\n";
    user.file("node.toml", named);
    let ran = user.run(&LOCAL);
    let error = ran.error(2);
    assert!(
        error.starts_with("node.toml: keystore = \"typo.json\": "),
        "{error}"
    );
    assert!(!user.path("typo.json").exists());
}
