//! A claim is made although no endpoint of those that are followed answers.

use std::{sync::Arc, time::Duration};

use headwater::ledger::{Chain, Keeper};
use headwater_anvil::Anvil;
use headwater_chain::{
    JobId,
    ethereum::{ChainSettings, ClaimConfig, Claims, EthereumLedger, Spending, Writer},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    scene::{Scene, Who, endpoints, key},
    transcoder::work,
};

const A_WHILE: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

/// Passes on what comes, until it is aborted.
async fn pass_on(listener: TcpListener, chain: String) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let chain = chain.clone();
        connections.spawn(async move {
            let mut far = TcpStream::connect(chain).await.unwrap();
            // Either side may be gone by then.
            drop(copy_bidirectional(&mut near, &mut far).await);
        });
    }
}

#[tokio::test]
async fn work_is_claimed_while_the_chain_cannot_be_followed() {
    let anvil = Anvil::start();
    let scene = Scene::open(&anvil).await;
    let job = JobId(2);
    let account = scene.account(Who::Transcoder).await;
    let writer = Writer::new(account.clone(), Spending::default());
    let own = key(Who::Transcoder).address();
    writer.acknowledge(job, own).await.unwrap();
    let receipts = work(&scene, account.journal(), job);
    let claims = || {
        let config = ClaimConfig {
            receipts: 1,
            ..ClaimConfig::default()
        };
        Claims::new(account.clone(), receipts.clone(), config)
    };

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let followed = endpoints(&format!("http://{}", listener.local_addr().unwrap()));
    let chain = scene.url().trim_start_matches("http://").to_owned();
    let way = tokio::spawn(pass_on(listener, chain));
    let settings = ChainSettings {
        poll: A_WHILE,
        ..ChainSettings::new(followed, scene.contract())
    };
    let ledger = EthereumLedger::open(settings).await.unwrap();
    way.abort();
    let failing = timeout(LONG, async {
        while ledger.status().endpoints[0].failures == 0 {
            sleep(A_WHILE).await;
        }
    });
    failing.await.unwrap();

    let chain = Chain {
        ledger: Arc::new(ledger),
        writer: Some(writer.clone()),
    };
    let stop = CancellationToken::new();
    let keeper = Keeper::new(chain, writer, Some(claims()));
    let keeping = tokio::spawn(keeper.run(stop.clone()));
    let claimed = timeout(LONG, async {
        while claims().list(job).unwrap().is_empty() {
            sleep(A_WHILE).await;
        }
    });
    claimed.await.unwrap();
    stop.cancel();
    keeping.await.unwrap();
}
