//! What can be sent to a server, and what is refused before anything is.

use std::ops::ControlFlow;

use headwater_media::push::{self, PushError};

use crate::common::{AUDIO, Still, VIDEO, make};

/// Where nobody listens.
const NOWHERE: &str = "rtmp://127.0.0.1:1/live/key";

#[test]
fn a_file_that_rtmp_cannot_carry_is_refused_by_its_codecs() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} {AUDIO} -t 1 -c:v libx264 -preset ultrafast -c:a libopus");
    let film = make(dir.path(), "film.mp4", &arguments);
    let mut report = |_| ControlFlow::Continue(());

    let error = push::run(&film, NOWHERE, false, &mut Still, &mut report).unwrap_err();

    assert!(matches!(&error, PushError::Unfit(_)), "{error}");
    assert!(error.to_string().contains("h264, opus"), "{error}");
}

#[test]
fn a_cover_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let picture = make(dir.path(), "cover.png", &format!("{VIDEO} -frames:v 1"));
    let arguments = format!(
        "{AUDIO} -i {} -map 0 -map 1 -t 1 -disposition:v attached_pic",
        picture.display()
    );
    let song = make(dir.path(), "song.mp3", &arguments);
    let mut report = |_| ControlFlow::Continue(());

    let error = push::run(&song, NOWHERE, false, &mut Still, &mut report).unwrap_err();

    // It could be sent, if there were a server.
    assert!(matches!(&error, PushError::Server(_)), "{error}");
}
