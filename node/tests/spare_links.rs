//! Links that a node has dialled and that nothing uses any more, over real sockets on
//! loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a node that does not start has failed its test"
)]

use std::time::Duration;

use headwater::{
    clock,
    driver::{self, Core},
    net::{self, NetConfig, NetHandle},
};
use headwater_proto::{Roles, SigningKey};
use headwater_protocol::{Config, Node};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Short, so that the test is; nothing is said about how soon a link is closed after it.
const SPARE_AFTER: Duration = Duration::from_millis(600);
const POLL: Duration = Duration::from_millis(20);
/// What has not happened by then will not.
const LONG: Duration = Duration::from_secs(30);

const RELAYER: Roles = Roles {
    relayer: true,
    broadcaster: false,
    transcoder: false,
};

struct Running {
    net: NetHandle,
    /// Its core runs as long as this is there.
    _core: Core,
}

async fn start(
    seed: u8,
    roles: Roles,
    bootstrap: &[&Running],
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Running {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let config = Config::for_roles(roles);
    let node = Node::new(key.node_id(), config, [seed; 32], clock::now());
    let address = |other: &&Running| {
        let node = other.net.node();
        format!("{}/p2p/{node}", other.net.listen_addresses()[0])
    };
    let config = NetConfig {
        key,
        roles,
        agent: "test".into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        external: vec![],
        bootstrap: bootstrap.iter().map(address).collect(),
        known: vec![],
        allow_private: true,
        home_links: 1,
        max_links: 16,
    };
    let (net, events) = net::start(config, tasks, stop.clone()).await.unwrap();
    let (net_of, stop) = (net.clone(), stop.clone());
    // No question is asked where nothing is wanted.
    let (core, _) = driver::start(node, net_of, events, None, SPARE_AFTER, tasks, stop);
    Running { net, _core: core }
}

impl Running {
    fn is_linked(&self, to: &Self) -> bool {
        let to = to.net.node();
        self.net.peers().iter().any(|peer| peer.peer == to)
    }

    async fn until(&self, to: &Self, linked: bool) {
        let wait = async {
            while self.is_linked(to) != linked {
                sleep(POLL).await;
            }
        };
        let waited = timeout(LONG, wait).await;
        assert!(waited.is_ok(), "linked: {}", !linked);
    }

    /// Dials until it has seen the link: on a slow machine the first may be gone before.
    async fn dial(&self, to: &Self) {
        let wait = async {
            for dial in 0.. {
                let (node, addresses) = (to.net.node(), to.net.listen_addresses());
                self.net.dial(dial, node, addresses).unwrap();
                for _ in 0..50 {
                    if self.is_linked(to) {
                        return;
                    }
                    sleep(POLL).await;
                }
            }
        };
        timeout(LONG, wait).await.unwrap();
    }
}

/// The link to the relay, which the overlay needs, carries no more than the other does.
#[tokio::test]
async fn a_link_that_was_dialled_is_closed_when_nothing_uses_it() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let relay = start(1, RELAYER, &[], &tasks, &stop).await;
    let owner = start(2, Roles::default(), &[&relay], &tasks, &stop).await;
    let viewer = start(3, Roles::default(), &[&relay], &tasks, &stop).await;
    viewer.until(&relay, true).await;
    let linked = || viewer.net.peers().iter().map(|peer| peer.since_ms).min();
    let since = linked();

    viewer.dial(&owner).await;
    viewer.until(&owner, false).await;
    viewer.dial(&owner).await;
    viewer.until(&owner, false).await;

    assert!(viewer.is_linked(&relay));
    assert_eq!(linked(), since, "and it is still the same");
    stop.cancel();
    tasks.close();
    timeout(LONG, tasks.wait()).await.unwrap();
}
