//! A node of its own directory, with streams that are put on its shelf.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use headwater::{
    app::App,
    config::{Raw, Setting},
    pipeline::{Ingest, SharedTimeline},
};
use headwater_media::{
    Init, Packaged, Part, Tracks,
    hls::{Timeline, TimelineConfig},
    ingest::TestSource,
};
use headwater_proto::{BroadcastId, ManifestId, StreamId};
use reqwest::{Client, Method, Response, header::HeaderMap};

/// Bytes of a segment that [`Node::stream`] makes: two parts.
pub(crate) const SEGMENT: usize = 2000;

/// A small moving picture; it goes on as long as the broadcast unless it has a `duration`.
pub(crate) fn picture(duration: Option<Duration>) -> Ingest {
    Ingest::Test(TestSource {
        width: 160,
        height: 90,
        frame_rate: 10,
        bit_rate: 100_000,
        duration,
    })
}

pub(crate) struct Node {
    pub(crate) app: App,
    pub(crate) client: Client,
    pub(crate) dir: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start(raw: Raw) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), raw).await
    }

    /// A node with the data of another run.
    pub(crate) async fn start_in(dir: tempfile::TempDir, raw: Raw) -> Self {
        let any = Some("127.0.0.1:0");
        let raw = raw
            .flag(Setting::DataDir, dir.path().to_str())
            .flag(Setting::Listen, Some("/ip4/127.0.0.1/tcp/0"))
            .flag(Setting::AllowPrivateDials, Some("yes"))
            .flag(Setting::Http, any)
            .flag(Setting::Admin, any)
            .flag(Setting::Rtmp, any);
        let app = App::start(raw.parse().unwrap()).await.unwrap();
        let redirect = reqwest::redirect::Policy::none();
        let client = Client::builder().no_proxy().redirect(redirect);
        Self {
            app,
            client: client.build().unwrap(),
            dir,
        }
    }

    /// What a run after kill -9 at this moment would find.
    pub(crate) fn killed(&self) -> tempfile::TempDir {
        let (dir, copy) = (self.dir.path(), tempfile::tempdir().unwrap());
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            let to = copy.path().join(folder.strip_prefix(dir).unwrap());
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        copy
    }

    pub(crate) async fn plain() -> Self {
        Self::start(Raw::default()).await
    }

    /// The id of a broadcast that this node could make.
    pub(crate) fn manifest(&self, number: u8) -> ManifestId {
        ManifestId {
            node: self.app.node(),
            broadcast: BroadcastId::from_bytes([number; 16]),
        }
    }

    /// A stream of this node with these segments.
    pub(crate) fn stream(&self, segments: std::ops::Range<u64>) -> (StreamId, SharedTimeline) {
        let stream = self.manifest(7).source();
        let timeline = Arc::new(Mutex::new(Timeline::new(TimelineConfig::default())));
        let init = Packaged::Init(Init {
            index: 0,
            tracks: Tracks {
                video: None,
                audio: None,
            },
            data: Bytes::from_static(b"init"),
        });
        timeline.lock().unwrap().push(init);
        for segment in segments {
            push(&timeline, segment);
        }
        self.app.library().host(&stream, timeline.clone());
        (stream, timeline)
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: HeaderMap) -> Response {
        let url = format!("http://{}{path}", self.app.http());
        let request = self.client.request(method, url).headers(headers);
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, HeaderMap::new()).await
    }

    pub(crate) async fn operator(&self, path: &str, headers: HeaderMap) -> Response {
        let url = format!("http://{}{path}", self.app.admin());
        self.client.get(url).headers(headers).send().await.unwrap()
    }
}

/// Adds a segment of two parts.
pub(crate) fn push(timeline: &SharedTimeline, segment: u64) {
    for index in 0..2 {
        let part = Part {
            segment,
            index,
            init: 0,
            discontinuity: 0,
            start: segment * 180_000 + u64::from(index) * 90_000,
            duration: 90_000,
            program_date_time_ms: segment * 2000,
            independent: index == 0,
            last: index == 1,
            data: Bytes::from(vec![u8::try_from(segment % 251).unwrap(); SEGMENT / 2]),
        };
        timeline.lock().unwrap().push(Packaged::Part(part));
    }
}

/// A header's text, empty where there is none.
pub(crate) fn header(response: &Response, name: &str) -> String {
    let value = response.headers().get(name);
    let text = value.map(|value| value.to_str().unwrap().to_owned());
    text.unwrap_or_default()
}

/// Headers of names and values.
pub(crate) fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    of.iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}
