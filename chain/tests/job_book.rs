//! The job book as several processes use it, and as a killed one leaves it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::{fs, path::Path, sync::Arc};

use headwater_chain::{
    Address, Cursor, Event, JobBook, JobFilter, JobId, JobState, Ledger, LedgerError, NewJob,
    NodeKey, Transcoder, Wei,
};

fn transcoder(n: u8) -> Transcoder {
    Transcoder {
        address: Address([n; 20]),
        node: NodeKey([n; 32]),
        price_per_segment: Wei(5),
        stake: Wei(10),
    }
}

fn job(stream: &str) -> NewJob {
    NewJob {
        stream: stream.into(),
        broadcaster: NodeKey([9; 32]),
        profiles: vec!["360p".into()],
        max_price_per_segment: Wei(5),
    }
}

fn open(path: &Path) -> Arc<dyn Ledger> {
    Arc::new(JobBook::open(path).unwrap())
}

#[tokio::test]
async fn a_job_goes_to_a_transcoder_and_an_encoder_that_returns_gets_the_same_job() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(&dir.path().join("deep/jobs.book"));
    book.register(transcoder(1)).await.unwrap();

    let created = book.create_job(job("s")).await.unwrap();
    let again = book.create_job(job("s")).await.unwrap();

    assert_eq!(created.id, again.id);
    assert_eq!(created.state, JobState::Assigned);
    assert_eq!(created.transcoder.unwrap().address, Address([1; 20]));
    let acknowledged = book
        .acknowledge(created.id, Address([1; 20]))
        .await
        .unwrap();
    assert_eq!(acknowledged.state, JobState::Acknowledged);
    let stranger = book.acknowledge(created.id, Address([2; 20])).await;
    assert!(matches!(stranger, Err(LedgerError::NotHolder(..))));
    book.end_job(created.id).await.unwrap();
    let next = book.create_job(job("s")).await.unwrap();
    assert_ne!(next.id, created.id);
    let live = book.jobs(JobFilter::default()).await.unwrap();
    assert_eq!(live.len(), 1);
}

#[tokio::test]
async fn a_failed_transcoder_is_not_elected_again() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(&dir.path().join("jobs.book"));
    book.register(transcoder(1)).await.unwrap();
    book.register(transcoder(2)).await.unwrap();
    let first = book.create_job(job("s")).await.unwrap();

    let second = book.reassign(first.id).await.unwrap();
    let third = book.reassign(first.id).await.unwrap();

    let holder = |job: &headwater_chain::Job| job.transcoder.as_ref().map(|t| t.address);
    assert_ne!(holder(&first), holder(&second));
    assert_eq!(third.state, JobState::Open);
    book.register(transcoder(3)).await.unwrap();
    let job = book.job(first.id).await.unwrap().unwrap();
    assert_eq!(
        holder(&job),
        Some(Address([3; 20])),
        "open jobs go to newcomers"
    );
}

#[tokio::test]
async fn writers_of_several_handles_never_lose_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let book = open(&path);
            tokio::spawn(async move {
                for m in 0..10 {
                    book.create_job(job(&format!("{n}-{m}"))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }

    let jobs = open(&path).jobs(JobFilter::default()).await.unwrap();
    let ids: Vec<_> = jobs.iter().map(|job| job.id.0).collect();
    assert_eq!(ids, (1..=80).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_entry_cut_off_at_any_byte_is_as_if_it_had_not_been_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let book = open(&path);
    book.register(transcoder(1)).await.unwrap();
    let before = fs::read(&path).unwrap().len();
    book.create_job(job("s")).await.unwrap();
    drop(book);
    let whole = fs::read(&path).unwrap();

    for len in before..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let book = open(&path);
        assert_eq!(
            book.jobs(JobFilter::default()).await.unwrap(),
            vec![],
            "{len}"
        );
        let created = book.create_job(job("other")).await.unwrap();
        assert_eq!(created.id, JobId(1), "{len}");
        let reopened = open(&path).job(JobId(1)).await.unwrap().unwrap();
        assert_eq!(reopened.stream, "other", "{len}");
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_named_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let book = open(&path);
    book.register(transcoder(1)).await.unwrap();
    let at = fs::read(&path).unwrap().len() as u64;
    book.create_job(job("s")).await.unwrap();
    book.create_job(job("t")).await.unwrap();
    drop(book);
    let mut bytes = fs::read(&path).unwrap();
    let place = usize::try_from(at).unwrap() + 100;
    bytes[place] ^= 1;
    fs::write(&path, bytes).unwrap();

    let error = JobBook::open(&path).unwrap_err();

    assert_eq!(error, LedgerError::Damaged { path, at });
}

#[test]
fn what_is_no_job_book_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    fs::write(&text, "x".repeat(500)).unwrap();
    let newer = dir.path().join("newer");
    fs::write(&newer, format!("headwater-job-book 2 {}\n", "0".repeat(64))).unwrap();

    for path in [&text, &newer] {
        let error = JobBook::open(path).unwrap_err();
        assert!(matches!(error, LedgerError::Format { .. }), "{error}");
    }
    let error = JobBook::open(dir.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Io { .. }), "{error}");
}

#[tokio::test]
async fn a_watch_sees_every_entry_once_and_in_order_from_any_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let (writer, reader) = (open(&path), open(&path));
    let mut watch = reader.watch(None);
    writer.register(transcoder(1)).await.unwrap();
    writer.create_job(job("s")).await.unwrap();
    writer.end_job(JobId(1)).await.unwrap();

    let mut batches = Vec::new();
    for _ in 0..3 {
        batches.push(watch.next().await.unwrap().unwrap());
    }
    assert!(matches!(batches[0].events[..], [Event::Registered(_)]));
    assert!(matches!(
        batches[1].events[..],
        [Event::JobCreated(_), Event::JobAssigned(_)]
    ));
    assert!(matches!(batches[2].events[..], [Event::JobEnded(_)]));

    let mut later = reader.watch(Some(batches[0].cursor.clone()));
    assert_eq!(later.next().await.unwrap().unwrap(), batches[1]);
    let mut wrong = reader.watch(Some(Cursor("block 7".into())));
    assert!(matches!(
        wrong.next().await,
        Some(Err(LedgerError::Cursor(_)))
    ));
}

#[tokio::test]
async fn a_book_that_has_to_be_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("typo/jobs.book");

    let error = JobBook::open_existing(&path).unwrap_err();

    assert_eq!(error, LedgerError::Missing(path.clone()));
    assert!(error.to_string().contains("typo/jobs.book"), "{error}");
    assert!(!dir.path().join("typo").exists());
    open(&path).create_job(job("s")).await.unwrap();
    let found = JobBook::open_existing(&path).unwrap();
    assert_eq!(found.jobs(JobFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_book_that_was_cut_off_behind_its_reader_is_not_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let book = open(&path);
    book.create_job(job("s")).await.unwrap();
    book.create_job(job("t")).await.unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let first = whole.split_inclusive('\n').take(2).collect::<String>();
    fs::write(&path, &first).unwrap();

    let error = book.create_job(job("u")).await.unwrap_err();

    assert_eq!(error, LedgerError::Replaced(path.clone()));
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
}

/// Otherwise a node would go on with a file that nobody else has.
#[tokio::test]
async fn a_book_that_was_removed_or_replaced_is_neither_read_nor_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let book = open(&path);
    book.create_job(job("s")).await.unwrap();
    let mut watch = book.watch(None);
    watch.next().await.unwrap().unwrap();
    let replaced = LedgerError::Replaced(path.clone());

    fs::remove_file(&path).unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap_err(), replaced);
    assert_eq!(book.create_job(job("t")).await.unwrap_err(), replaced);
    assert!(!path.exists());

    open(&path).create_job(job("other")).await.unwrap();
    assert_eq!(book.job(JobId(1)).await.unwrap_err(), replaced);
    assert_eq!(book.create_job(job("t")).await.unwrap_err(), replaced);
    assert!(replaced.is_for_good());
}

#[tokio::test]
async fn a_place_in_another_book_or_after_the_end_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    let book = open(&path);
    for stream in ["s", "t", "u"] {
        book.create_job(job(stream)).await.unwrap();
    }
    let whole = fs::read_to_string(&path).unwrap();
    let mut watch = book.watch(None);
    let mut place = None;
    for _ in 0..3 {
        place = Some(watch.next().await.unwrap().unwrap().cursor);
    }
    drop((watch, book));
    let start = Cursor("0".into());
    let back = vec![Event::RolledBack(start.clone())];

    let older = whole.split_inclusive('\n').take(3).collect::<String>();
    fs::write(&path, older).unwrap();
    let mut watch = open(&path).watch(place.clone());
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!((batch.events, batch.cursor), (back.clone(), start));
    let again = watch.next().await.unwrap().unwrap().events;
    assert!(matches!(&again[..], [Event::JobCreated(job)] if job.stream == "s"));

    fs::remove_file(&path).unwrap();
    let other = open(&path);
    for stream in ["v", "w", "x", "y"] {
        other.create_job(job(stream)).await.unwrap();
    }
    let mut watch = other.watch(place);
    assert_eq!(watch.next().await.unwrap().unwrap().events, back);
    let first = watch.next().await.unwrap().unwrap().events;
    assert!(matches!(&first[..], [Event::JobCreated(job)] if job.stream == "v"));
}

/// Places of version 0.1 have no checksum.
#[tokio::test]
async fn a_place_without_a_checksum_is_believed_up_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let book = open(&dir.path().join("jobs.book"));
    for stream in ["s", "t"] {
        book.create_job(job(stream)).await.unwrap();
    }

    let mut watch = book.watch(Some(Cursor("1".into())));
    let next = watch.next().await.unwrap().unwrap().events;
    assert!(matches!(&next[..], [Event::JobCreated(job)] if job.stream == "t"));
    let mut watch = book.watch(Some(Cursor("3".into())));
    let next = watch.next().await.unwrap().unwrap().events;
    assert!(matches!(next[..], [Event::RolledBack(_)]));
}

/// As when the half entry of a killed writer is replaced between two reads of a reader.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_looks_damaged_while_somebody_writes_is_read_again() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.book");
    open(&path).create_job(job("s")).await.unwrap();
    let mut writer = fs::File::options().append(true).open(&path).unwrap();
    writer.lock().unwrap();
    let about = writer.metadata().unwrap();
    std::io::Write::write_all(&mut writer, b"half an entry and another's end\n").unwrap();

    let reading = path.clone();
    let reader = tokio::task::spawn_blocking(move || JobBook::open_existing(&reading));
    let waits = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let inode = format!(":{} ", about.ino());
        locks
            .lines()
            .any(|lock| lock.contains("->") && lock.contains(&inode))
    };
    while !waits() && !reader.is_finished() {
        tokio::task::yield_now().await;
    }
    writer.set_len(about.len()).unwrap();
    writer.unlock().unwrap();

    let book = reader.await.unwrap().unwrap();
    assert_eq!(book.jobs(JobFilter::default()).await.unwrap().len(), 1);
}
