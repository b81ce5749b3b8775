//! A node's flags.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::{Environment, Raw, Setting, file},
    secret::Secret,
};

const HELP: &str = "Without a role flag a node is an edge: it serves its own players.

Every flag is also an environment variable, HEADWATER_DATA_DIR for --data-dir, and a key of
the configuration file, data_dir. Flags win over the environment, and that over the file.";

/// What a node is told, as it was typed; it is looked at with the environment and the
/// file, so that everything that is wrong is told at once.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct NodeArgs {
    /// TOML file with the same keys as the flags, `_` for `-` [env: HEADWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take streams in from encoders
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_name = "yes|no")]
    broadcaster: Option<String>,
    /// Carry any stream for others, and be a node to bootstrap from
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_name = "yes|no")]
    relayer: Option<String>,
    /// Make renditions of streams whose job is assigned to this node; needs a ledger
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_name = "yes|no")]
    transcoder: Option<String>,
    /// Where identity and state are kept [default: ~/.headwater]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Multiaddr to listen on; repeatable
    /// [default: /ip4/0.0.0.0/tcp/4935 and /ip4/0.0.0.0/udp/4935/quic-v1]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    listen: Option<Vec<String>>,
    /// Multiaddr of a node to begin with; repeatable
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    bootstrap: Option<Vec<String>>,
    /// Multiaddr under which others reach this node, when it cannot know it; repeatable
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',')]
    external_addr: Option<Vec<String>>,
    /// Dial private and loopback addresses that other nodes tell of; for networks at home
    /// and tests
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_name = "yes|no")]
    allow_private_dials: Option<String>,
    /// Neighbours at most, 8 to 10000 [default: 256]
    #[arg(long, value_name = "NUMBER")]
    max_peers: Option<String>,
    /// Where players fetch streams [default: 127.0.0.1:8935]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where `headwater status` and monitors ask [default: 127.0.0.1:7935]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where encoders publish to a broadcaster [default: 127.0.0.1:1935]
    #[arg(long, value_name = "ADDR")]
    rtmp: Option<String>,
    /// A name and the secret key an encoder publishes it with; repeatable. Without any, a
    /// key for the name `live` is made on the first start. Other users of this machine can
    /// see flags: better say it in the file or the environment
    #[arg(long, value_name = "NAME=KEY", value_delimiter = ',')]
    publish_key: Option<Vec<Secret>>,
    /// The ledger of jobs: file:PATH, a job book that several nodes of one machine share,
    /// or ws(s)://… or http(s)://… of a chain; repeatable for a chain, the next is asked
    /// when one fails
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    ledger: Option<Vec<String>>,
    /// Address of the contract on the chain
    #[arg(long, value_name = "0x…")]
    contract: Option<String>,
    /// Blocks that must follow a block until what is in it counts, 0 to 64 [default: 2]
    #[arg(long, value_name = "BLOCKS")]
    confirmations: Option<String>,
    /// Wei paid for a unit of gas at most [default: 200000000000]
    #[arg(long, value_name = "WEI")]
    max_fee: Option<String>,
    /// Create a transcoding job when a broadcast begins
    /// [default: yes with a job book, no with a chain]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "yes", value_name = "yes|no")]
    create_jobs: Option<String>,
    /// Create no transcoding jobs
    #[arg(long, conflicts_with = "create_jobs")]
    no_create_jobs: bool,
    /// How long a broadcast's transcoder may be silent before it is asked whether it is
    /// there, and replaced when it is not, 5s to 1h [default: 20s]
    #[arg(long, value_name = "DURATION")]
    reassign_after: Option<String>,
    /// Segments a transcoder makes without a receipt before it stops a job that a ledger
    /// should pay for, 10 to 1000 [default: 30]
    #[arg(long, value_name = "NUMBER")]
    max_unpaid: Option<String>,
    /// Receipts of a job that a transcoder claims as soon as it has them, 1 to 4096
    /// [default: 1800]
    #[arg(long, value_name = "NUMBER")]
    claim_receipts: Option<String>,
    /// Blocks that a receipt waits until it is claimed with fewer others, 1 to 100000
    /// [default: 1800]
    #[arg(long, value_name = "BLOCKS")]
    claim_blocks: Option<String>,
    /// Wei paid for a segment at most; needed for --create-jobs on a chain
    #[arg(long, value_name = "WEI")]
    max_price: Option<String>,
    /// Wei that may be reserved for jobs within 24 hours, on a chain
    /// [default: 10000000000000000]
    #[arg(long, value_name = "WEI")]
    spend_limit: Option<String>,
    /// Keystore of the node's Ethereum key, which must exist
    /// [default: DATA_DIR/ethereum.json, made on the first start]
    #[arg(long, value_name = "FILE")]
    keystore: Option<String>,
    /// File with the keystore's password
    /// [default: no password, the data directory's permissions protect the key]
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Renditions a transcoder makes: names such as 720p,480p,360p, or a TOML file
    /// [default: 720p,480p,360p]
    #[arg(long, value_name = "LADDER")]
    ladder: Option<String>,
    /// Length of a segment, 500ms to 10s [default: 2s]
    #[arg(long, value_name = "DURATION")]
    segment: Option<String>,
    /// Length of a part, 50ms to 2s [default: 200ms]
    #[arg(long, value_name = "DURATION")]
    part: Option<String>,
    /// How long a broadcast waits for an encoder that was cut off, 0s to 1h [default: 30s]
    #[arg(long, value_name = "DURATION")]
    reconnect_window: Option<String>,
}

impl NodeArgs {
    /// What these flags, the environment and the configuration file say together.
    pub(super) fn raw(self, said: Environment) -> Raw {
        let create_jobs = self.no_create_jobs.then(|| "no".to_owned());
        let flags = Raw::default()
            .flag(Setting::Broadcaster, self.broadcaster)
            .flag(Setting::Relayer, self.relayer)
            .flag(Setting::Transcoder, self.transcoder)
            .flag(Setting::DataDir, self.data_dir)
            .flag(Setting::Listen, self.listen)
            .flag(Setting::Bootstrap, self.bootstrap)
            .flag(Setting::ExternalAddr, self.external_addr)
            .flag(Setting::AllowPrivateDials, self.allow_private_dials)
            .flag(Setting::MaxPeers, self.max_peers)
            .flag(Setting::Http, self.http)
            .flag(Setting::Admin, self.admin)
            .flag(Setting::Rtmp, self.rtmp)
            .flag(Setting::PublishKey, self.publish_key)
            .flag(Setting::Ledger, self.ledger)
            .flag(Setting::Contract, self.contract)
            .flag(Setting::Confirmations, self.confirmations)
            .flag(Setting::MaxFee, self.max_fee)
            .flag(Setting::MaxPrice, self.max_price)
            .flag(Setting::SpendLimit, self.spend_limit)
            .flag(Setting::CreateJobs, self.create_jobs.or(create_jobs))
            .flag(Setting::ReassignAfter, self.reassign_after)
            .flag(Setting::MaxUnpaid, self.max_unpaid)
            .flag(Setting::ClaimReceipts, self.claim_receipts)
            .flag(Setting::ClaimBlocks, self.claim_blocks)
            .flag(Setting::Keystore, self.keystore)
            .flag(Setting::PasswordFile, self.password_file)
            .flag(Setting::Ladder, self.ladder)
            .flag(Setting::Segment, self.segment)
            .flag(Setting::Part, self.part)
            .flag(Setting::ReconnectWindow, self.reconnect_window);
        let path = self.config.or(said.config);
        let file = path.as_deref().map(file::read).unwrap_or_default();
        flags.over(said.raw).over(file).at_home(said.home)
    }
}
