//! A chain behind real TLS: what is trusted works over https and wss; what is not is
//! refused in words, and another endpoint is asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{path::PathBuf, process::Output, sync::Arc};

use headwater_anvil::Anvil;
use headwater_e2e::{Cluster, account, chain};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Who signs certificates.
struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

/// A server that takes TLS off and passes on what comes; dropping it ends it.
struct Server {
    /// Host and port.
    at: String,
    task: JoinHandle<()>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    /// A server whose certificate is for a name.
    async fn serves(&self, name: &str, port: u16) -> Server {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        self.serves_with(params, port).await
    }

    async fn serves_with(&self, params: CertificateParams, port: u16) -> Server {
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.certificate, &self.key);
        let chain = vec![signed.unwrap().der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Server::start(config, port).await
    }
}

impl Server {
    async fn start(config: ServerConfig, port: u16) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("localhost:{}", listener.local_addr().unwrap().port());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let accepting = acceptor.accept(stream);
                tokio::spawn(async move {
                    // Whoever does not trust it hangs up.
                    let Ok(mut near) = accepting.await else {
                        return;
                    };
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    // Either side may be gone by then.
                    drop(copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Self { at, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A contract on a chain, and somebody who trusts one authority.
struct World {
    cluster: Cluster,
    chain: Anvil,
    contract: String,
    trusted: Authority,
    trust: PathBuf,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::new().unwrap();
        let state = cluster.dir().join("chain.json");
        let chain = chain(&state);
        let deploy = ["ledger", "deploy", "--yes", "--ledger", &chain.ws_url()];
        let made = cluster.run(account(0), &deploy).await.unwrap();
        let trusted = Authority::new("trusted");
        let trust = cluster.dir().join("trust.pem");
        std::fs::write(&trust, trusted.certificate.pem()).unwrap();
        Self {
            contract: made["contract"].as_str().unwrap().to_owned(),
            cluster,
            chain,
            trusted,
            trust,
        }
    }

    /// Reads the ledger by these endpoints.
    async fn show(&self, endpoints: &[&str]) -> Output {
        let endpoints = endpoints.iter().flat_map(|url| ["--ledger", url]);
        Command::new(self.cluster.binary())
            .args(["ledger", "show", "--json", "--contract", &self.contract])
            .args(endpoints)
            .env("SSL_CERT_FILE", &self.trust)
            .env_remove("SSL_CERT_DIR")
            .output()
            .await
            .unwrap()
    }

    /// A server is refused over https and wss, with these words, and the next endpoint is
    /// asked.
    async fn refuses(&self, server: &Server, words: &str) {
        let Server { at, .. } = server;
        for scheme in ["https", "wss"] {
            let url = format!("{scheme}://{at}");
            let alone = self.show(&[&url]).await;
            let said = String::from_utf8(alone.stderr).unwrap();
            assert_eq!(alone.status.code(), Some(1), "{url}: {said}");
            assert!(said.contains(&url) && said.contains(words), "{said}");

            let next = self.show(&[&url, &self.chain.ws_url()]).await;
            let said = String::from_utf8(next.stderr).unwrap();
            assert!(next.status.success(), "{url}: {said}");
        }
    }
}

#[tokio::test]
async fn a_chain_is_read_over_tls_that_is_trusted() {
    let world = World::new().await;
    let server = world.trusted.serves("localhost", world.chain.port()).await;
    for scheme in ["https", "wss"] {
        let url = format!("{scheme}://{}", server.at);
        let shown = world.show(&[&url]).await;
        let said = String::from_utf8(shown.stderr).unwrap();
        assert!(shown.status.success(), "{url}: {said}");
        let told: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        let status = world.show(&[&world.chain.ws_url()]).await;
        let direct: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(told["transcoders"], direct["transcoders"], "{told}");
    }
}

#[tokio::test]
async fn certificates_that_are_not_right_are_refused_in_words() {
    let world = World::new().await;
    let port = world.chain.port();

    let stranger = Authority::new("stranger").serves("localhost", port).await;
    world
        .refuses(&stranger, "signed by nobody whom this machine trusts")
        .await;

    let other = world.trusted.serves("chain.example", port).await;
    world
        .refuses(&other, "not valid for name \"localhost\"")
        .await;

    let mut old = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    old.not_before = date_time_ymd(2019, 1, 1);
    old.not_after = date_time_ymd(2020, 1, 1);
    let expired = world.trusted.serves_with(old, port).await;
    world.refuses(&expired, "expired").await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_in_words() {
    let world = World::new().await;
    for scheme in ["https", "wss"] {
        let url = format!("{scheme}://127.0.0.1:{}", world.chain.port());
        let ran = world.show(&[&url]).await;
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(said.contains(&url), "{said}");
    }
}
