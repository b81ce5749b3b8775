//! Another implementation of a node than anvil: what is read must not depend on whose it
//! is.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use headwater_chain::{JobId, JobState, Ledger as _};
use serde_json::json;

use crate::{
    store::{Store, all},
    world::{PEOPLE, World},
};

/// Its own command line takes no port 0.
const PROGRAM: &str = "
  const server = require('ganache').server({
    chain: { chainId: 1337, hardfork: 'shanghai' },
    wallet: { unlockedAccounts: process.argv.slice(1) },
    logging: { quiet: true },
  });
  server.listen(0, '127.0.0.1').then(() => console.log('port ' + server.address().port));
";

/// A running ganache; dropping it ends it.
struct Ganache {
    child: Child,
    port: u16,
    /// It leaves its database behind.
    _dir: tempfile::TempDir,
}

impl Ganache {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts");
        let installed = folder.join("node_modules/ganache").exists();
        assert!(
            installed,
            "ganache is not installed; run scripts/contracts install"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("node");
        command.current_dir(folder).args(["-e", PROGRAM]);
        command.env("TMPDIR", dir.path());
        command.args(PEOPLE.map(|account| account.to_string()));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        // From here on whatever fails ends it too.
        let mut ganache = Self {
            child: command.spawn().expect("node runs ganache"),
            port: 0,
            _dir: dir,
        };
        let mut lines = BufReader::new(ganache.child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.strip_prefix("port ")?.parse().unwrap())
        });
        // What it says afterwards has to go somewhere.
        std::thread::spawn(move || lines.count());
        ganache.port = port.expect("ganache says where it listens");
        ganache
    }
}

impl Drop for Ganache {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn jobs_are_read_from_another_implementation_of_a_node() {
    let ganache = Ganache::start();
    let url = format!("127.0.0.1:{}", ganache.port);
    let world = World::with(&format!("http://{url}"), "evm_setAccountBalance").await;
    let [http, ws] = ["http", "ws"].map(|scheme| format!("{scheme}://{url}").parse().unwrap());
    let old = world.create("old").await;
    world.rpc("evm_mine", json!([{ "blocks": 100 }])).await;
    world.assign(old).await;

    for endpoint in [ws, http] {
        let ledger = world.ledger(std::slice::from_ref(&endpoint)).await;
        let mut watch = ledger.watch(None);
        let mut store = Store::default();
        let new = world.create(&format!("{endpoint}")).await;
        world.rpc("evm_mine", json!([])).await;
        world.assign(new).await;
        store
            .follow_until(&mut watch, |store| store.holder(new).is_some())
            .await;

        let seen = ledger.job(JobId(new)).await.unwrap().unwrap();
        assert_eq!(seen.state, JobState::Assigned, "{endpoint}");
        assert_eq!(
            seen.transcoder.map(|holder| holder.address),
            store.holder(new)
        );
        assert!(store.holder(old).is_some());
        let head = world.head().await;
        store.follow(&mut watch, head).await;
        assert_eq!(store.events(), all(&ledger, head).await.events());
        // A branch of its own: the snapshot's blocks, and then others.
        let snapshot = world.rpc("evm_snapshot", json!([])).await;
        let gone = world.create("gone").await;
        store
            .follow_until(&mut watch, |store| store.knows(gone))
            .await;
        assert_eq!(
            world.rpc("evm_revert", json!([snapshot])).await,
            json!(true)
        );
        let later = json!([{ "blocks": 3, "timestamp": 4_000_000_000_u64 }]);
        world.rpc("evm_mine", later).await;
        store
            .follow_until(&mut watch, |store| !store.knows(gone))
            .await;
    }
}
