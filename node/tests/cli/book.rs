//! `headwater job` and `headwater ledger`.

use super::{User, broadcast};

const ONE: &str = "0x1111111111111111111111111111111111111111";
const TWO: &str = "0x2222222222222222222222222222222222222222";

fn register(user: &User, address: &str, n: u8) {
    let node = headwater_proto::NodeId::from_public_key([n; 32]).to_string();
    let (book, price) = (user.book(), "7");
    let flags = ["--address", address, "--node", &node, "--price", price];
    let command = ["ledger", "register", "--ledger", &book];
    let said = user.ask(&[&command[..], &flags[..]].concat());
    assert!(said.contains(&node), "{said}");
}

#[test]
fn a_job_is_created_assigned_reassigned_and_ended() {
    let user = User::new();
    let book = user.book();
    let id = broadcast(1);
    let job = |verb, more: &[&str]| {
        let command = ["job", verb, "--ledger", &book];
        user.ask_json(&[&command[..], more].concat())[0].clone()
    };
    register(&user, ONE, 1);
    register(&user, TWO, 2);

    let created = job(
        "create",
        &[&id, "--ladder", "480p,240p", "--max-price", "9"],
    );
    assert_eq!(created["id"], 1);
    assert_eq!(created["state"], "assigned");
    assert_eq!(created["profiles"], serde_json::json!(["480p", "240p"]));
    assert_eq!(created["stream"], format!("{id}.source"));
    assert_eq!(job("create", &[&id])["id"], 1, "a stream keeps its job");
    assert_eq!(job("show", &["1"]), created);
    assert_eq!(job("list", &[]), created);

    let moved = job("reassign", &["1"]);
    assert_ne!(moved["transcoder"], created["transcoder"]);
    assert_eq!(moved["round"], 2);
    assert_eq!(job("end", &["1"])["state"], "ended");
    assert_eq!(job("list", &[]), serde_json::Value::Null);
    assert_eq!(job("list", &["--all"])["id"], 1);
    let table = user.ask(&["job", "list", "--all", "--ledger", &book]);
    assert!(table.contains("ended") && table.contains(&id), "{table}");
    let over = user.run(&["job", "reassign", "1", "--ledger", &book]);
    assert_eq!(over.error(1), "job 1 has ended");
}

#[test]
fn a_transcoder_is_registered_shown_and_unregistered() {
    let user = User::new();
    let book = user.book();
    register(&user, ONE, 1);
    register(&user, TWO, 2);
    register(&user, TWO, 3);

    let all = user.ask_json(&["ledger", "show", "--ledger", &book]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["price_per_segment"], "7");
    let left = user.ask_json(&["ledger", "unregister", "--address", ONE, "--ledger", &book]);
    assert_eq!(left.as_array().unwrap().len(), 1);
    let again = user.run(&["ledger", "unregister", "--address", ONE, "--ledger", &book]);
    assert!(again.error(1).contains("not a registered"), "{}", again.err);
    let variable = [("HEADWATER_LEDGER", &*book)];
    let shown = user.run_with(&variable, &["ledger", "show"]);
    assert!(shown.out.contains(TWO), "{}", shown.out);
}

#[test]
fn a_mistyped_path_is_an_error_and_no_new_book() {
    let user = User::new();
    for command in [
        &["job", "list"][..],
        &["job", "show", "1"],
        &["job", "reassign", "1"],
        &["job", "end", "1"],
        &["ledger", "show"],
        &["ledger", "unregister", "--address", ONE],
    ] {
        let ran = user.run(&[command, &["--ledger", "file:typo/jobs.book"]].concat());
        assert_eq!(
            ran.error(1),
            "there is no job book at typo/jobs.book; check the path"
        );
    }
    assert_eq!(user.files(), [""; 0]);
}

#[test]
fn what_is_no_job_book_or_damaged_is_named_and_left_alone() {
    let user = User::new();
    let notes = user.file("notes.txt", &"buy milk\n".repeat(30));
    let ledger = format!("file:{notes}");
    for command in [
        &["job", "list"][..],
        &["job", "create", &broadcast(1)],
        &["ledger", "show"],
    ] {
        let ran = user.run(&[command, &["--ledger", &ledger]].concat());
        let error = ran.error(1);
        assert!(
            error.contains(&notes) && error.contains("not a job book"),
            "{error}"
        );
    }
    assert!(
        std::fs::read_to_string(&notes)
            .unwrap()
            .starts_with("buy milk")
    );

    let book = user.book();
    user.ask(&["job", "create", &broadcast(1), "--ledger", &book]);
    let path = user.path("jobs.book");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.replace("720p", "999p")).unwrap();
    let ran = user.run(&["job", "list", "--ledger", &book]);
    assert!(ran.error(1).contains("is damaged at byte"), "{}", ran.err);
}

#[test]
fn bad_arguments_are_refused_before_anything_is_opened() {
    let user = User::new();
    let book = user.book();
    let id = broadcast(1);
    for arguments in [
        &["job", "create", "nonsense", "--ledger", &book][..],
        &["job", "create", &id, "--max-price", "-1", "--ledger", &book],
        &["job", "create", &id, "--ledger", "ws://node"],
        &["job", "create", &id, "--ledger", "jobs.book"],
        &["job", "create", &id],
        &["job", "show", "one", "--ledger", &book],
        &["ledger", "register", "--address", "0x12", "--ledger", &book],
    ] {
        user.run(arguments).errors(2);
    }
    let unknown = user.run(&["job", "create", &id, "--ledger", "ws://node"]);
    let error = unknown.error(2);
    assert!(error.starts_with("--contract: "), "{error}");
    let secret = ["job", "list", "--ledger", "htp://user:secret@node/key"];
    let ran = user.run(&secret);
    let error = ran.error(2);
    assert!(error.starts_with("--ledger (hidden): "), "{error}");
    let deposit = ["ledger", "deposit", "5", "--ledger", &book];
    let ran = user.run(&deposit);
    let error = ran.error(1);
    assert_eq!(error, "there are no accounts and no money in a job book");
    assert_eq!(user.files(), [""; 0]);
    user.ask(&["job", "create", &id, "--ledger", &book]);
    let ran = user.run(&["job", "show", "7", "--ledger", &book]);
    assert_eq!(ran.error(1), "there is no job 7");
}

#[test]
fn a_command_does_not_wait_for_a_chain_that_does_not_answer() {
    let user = User::new();
    // Nobody listens there: the port was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ledger = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let contract = format!("0x{}", "11".repeat(20));
    let place = ["--ledger", &ledger, "--contract", &contract];
    for command in [["ledger", "show"], ["job", "list"]] {
        let ran = user.run(&[&command[..], &place].concat());
        let error = ran.error(1);
        assert!(error.contains("the chain cannot be asked"), "{error}");
        assert!(error.contains(&ledger), "{error}");
    }
}
