//! Receiving and sending files of a folder.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use adapter::{AdapterError, Delivery, Item, Result, Session, Sink};
use common::{Kept, fetch, list, noise};
use model::definition::{CopyMode, FileReceive, FileSend, ReceiveKind, SendKind};
use model::{Context, MessageId, property};
use tempfile::TempDir;

async fn open(folder: &Path, mask: &str) -> Result<Box<dyn Session>> {
    let setting = FileReceive { folder: folder.to_path_buf(), file_mask: mask.to_owned() };
    adapters::source(&ReceiveKind::File(setting)).expect("a source").connect().await
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &Path, name: &str, content: &[u8]) {
    fs::write(folder.join(name), content).expect("a file");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn only_regular_files_are_listed() {
    let folder = folder();
    write(folder.path(), "a.xml", b"12345");
    write(folder.path(), "B.XML", b"");
    write(folder.path(), "c.txt", b"");
    write(folder.path(), ".hidden.xml", b"");
    write(folder.path(), ".baton-01991e4c-6f00-7000-8000-000000000001.xml", b"");
    fs::create_dir(folder.path().join("d.xml")).expect("a folder");
    symlink("a.xml", folder.path().join("e.xml")).expect("a link");
    let mut session = open(folder.path(), "*.xml").await.expect("a session");
    let (items, listed) = list(&mut *session).await.expect("a listing");
    assert_eq!(items.keys().collect::<Vec<_>>(), ["B.XML", "a.xml"]);
    assert_eq!(listed, adapter::Listed::default());
    let item = &items["a.xml"];
    assert_eq!(session.look(item).await.expect("a look"), item.sighting);
    assert!(item.identity().is_some());
    symlink("a.xml", folder.path().join("f.xml")).expect("a link");
    let link = Item {
        path: folder.path().join("f.xml").into_os_string().into_encoded_bytes(),
        ..item.clone()
    };
    assert!(matches!(session.look(&link).await, Err(AdapterError::Item(_))));
    assert!(matches!(fetch(&mut *session, &link, 0).await, Err(AdapterError::Item(_))));
}

#[tokio::test]
async fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let name = std::ffi::OsStr::from_bytes(b"k\xe4se \xff.xml");
    fs::write(folder.path().join(name), b"x").expect("a file");
    let mut session = open(folder.path(), "K?SE*").await.expect("a session");
    let (items, _) = list(&mut *session).await.expect("a listing");
    let item = items.get("käse ÿ.xml").expect("the file");
    assert_eq!(fetch(&mut *session, item, 0).await.expect("its bytes"), b"x");
    session.remove(item).await.expect("removed");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn files_are_fetched_at_an_offset() {
    let folder = folder();
    let content = noise(3 * 256 * 1024);
    write(folder.path(), "a", &content);
    write(folder.path(), "empty", b"");
    let mut session = open(folder.path(), "*").await.expect("a session");
    let (items, _) = list(&mut *session).await.expect("a listing");
    for offset in [0, 1, 256 * 1024, 700_000, content.len()] {
        let bytes = fetch(&mut *session, &items["a"], offset as u64).await.expect("the bytes");
        assert!(bytes == content[offset..], "{offset}");
    }
    assert_eq!(fetch(&mut *session, &items["empty"], 0).await.expect("nothing"), b"");
    let beyond = fetch(&mut *session, &items["a"], content.len() as u64 + 1).await;
    assert!(matches!(beyond, Err(AdapterError::Item(_))));
    let mut kept = Kept::default();
    session.fetch(&items["a"], 0, &mut kept).await.expect("the bytes");
    assert!(kept.longest <= 256 * 1024);
    write(folder.path(), "a", &content[1..]);
    let changed = fetch(&mut *session, &items["a"], 0).await;
    assert!(matches!(changed, Err(AdapterError::Item(_))));
}

#[tokio::test]
async fn what_is_gone_is_said_to_be_gone() {
    let folder = folder();
    write(folder.path(), "a", b"a");
    let mut session = open(folder.path(), "*").await.expect("a session");
    let (items, _) = list(&mut *session).await.expect("a listing");
    let item = &items["a"];
    session.remove(item).await.expect("removed");
    let is_gone = |result: Result<()>| assert!(matches!(result, Err(AdapterError::Gone(_))));
    is_gone(session.remove(item).await);
    is_gone(session.look(item).await.map(|_| ()));
    is_gone(fetch(&mut *session, item, 0).await.map(|_| ()));
    is_gone(session.move_to(item, "done").await);
    let missing = open(&folder.path().join("nowhere"), "*").await.err();
    assert!(matches!(missing, Some(AdapterError::Refused(_))), "{missing:?}");
}

#[tokio::test]
async fn moving_never_takes_the_place_of_another() {
    let folder = folder();
    fs::create_dir(folder.path().join("done")).expect("a folder");
    let mut session = open(folder.path(), "*").await.expect("a session");
    for expected in ["a", "a.1", "a.2"] {
        write(folder.path(), "a", expected.as_bytes());
        let (items, _) = list(&mut *session).await.expect("a listing");
        session.move_to(&items["a"], "done").await.expect("moved");
        let moved = fs::read(folder.path().join("done").join(expected)).expect("the file");
        assert_eq!(moved, expected.as_bytes());
    }
    write(folder.path(), "a", b"a");
    let (items, _) = list(&mut *session).await.expect("a listing");
    let refused = session.move_to(&items["a"], "nowhere").await;
    assert!(matches!(refused, Err(AdapterError::Item(_))), "{refused:?}");
}

fn sink(folder: &Path, file_name: &str, copy_mode: CopyMode) -> Box<dyn Sink> {
    let setting =
        FileSend { folder: folder.to_path_buf(), file_name: file_name.to_owned(), copy_mode };
    adapters::sink(&SendKind::File(setting)).expect("a sink")
}

fn id(number: u64) -> MessageId {
    format!("01991e4c-6f00-7000-8000-{number:012x}").parse().expect("an id")
}

fn delivery(number: u64, source: &str, body: &[u8]) -> Delivery {
    let mut context = Context::default();
    context.set(property::RECEIVED_FILE_NAME, source);
    Delivery {
        message: id(number),
        context,
        body_bytes: body.len() as u64,
        body: Box::new(std::io::Cursor::new(body.to_vec())),
        maybe_delivered: false,
    }
}

#[tokio::test]
async fn a_batch_of_small_and_big_files() {
    for count in [1, 7, 8, 40] {
        let folder = folder();
        let sink = sink(folder.path(), "%SourceFileName%", CopyMode::CreateNew);
        let size = |number: u64| match number % 5 {
            0 => 3_000_001,
            _ => number as usize * 7,
        };
        let batch = (0..count)
            .map(|number| delivery(number, &format!("{number:03}"), &noise(size(number))))
            .collect();
        let results = sink.deliver(batch).await;
        assert_eq!(results.len(), count as usize);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(names(folder.path()).len(), count as usize);
        for number in 0..count {
            let content = fs::read(folder.path().join(format!("{number:03}"))).expect("the file");
            assert!(content == noise(size(number)), "{number}");
        }
    }
}

#[tokio::test]
async fn results_are_in_order_and_one_bad_message_harms_no_other() {
    let folder = folder();
    write(folder.path(), "taken", b"theirs");
    let sink = sink(folder.path(), "%SourceFileName%", CopyMode::CreateNew);
    let mut short = delivery(3, "short", b"123");
    short.body_bytes = 4;
    let mut long = delivery(4, "long", b"123");
    long.body_bytes = 2;
    let mut big = delivery(5, "big", &noise(2 << 20));
    big.body_bytes += 1;
    let results = sink
        .deliver(vec![
            delivery(0, "good", b"1"),
            delivery(1, "../evil", b"2"),
            delivery(2, "taken", b"3"),
            short,
            long,
            big,
            delivery(6, "good too", b"4"),
            delivery(7, "good", b"again"),
        ])
        .await;
    let ok: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, false, false, false, false, true, false]);
    assert!(matches!(&results[2], Err(AdapterError::Item(t)) if t.contains("exists")));
    assert_eq!(names(folder.path()), ["good", "good too", "taken"]);
    assert_eq!(fs::read(folder.path().join("taken")).expect("the file"), b"theirs");
    assert!(!folder.path().parent().expect("a parent").join("evil").exists());
}

#[tokio::test]
async fn overwrite_replaces() {
    let folder = folder();
    write(folder.path(), "a", b"old");
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, b"untouched").expect("a file");
    symlink(&elsewhere, folder.path().join("link")).expect("a link");
    let sink = sink(folder.path(), "%SourceFileName%", CopyMode::Overwrite);
    let results = sink.deliver(vec![delivery(1, "a", b"new"), delivery(2, "link", b"mine")]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fs::read(folder.path().join("a")).expect("the file"), b"new");
    assert_eq!(fs::read(&elsewhere).expect("the file"), b"untouched");
    assert_eq!(fs::read(folder.path().join("link")).expect("the file"), b"mine");
}

#[tokio::test]
async fn a_second_try_finds_its_own_file() {
    let folder = folder();
    let plain = sink(folder.path(), "%SourceFileName%", CopyMode::CreateNew);
    let again = |body: &[u8], maybe_delivered| {
        let mut delivery = delivery(1, "a", body);
        delivery.maybe_delivered = maybe_delivered;
        vec![delivery]
    };
    assert!(plain.deliver(again(b"body", false)).await[0].is_ok());
    assert!(plain.deliver(again(b"body", false)).await[0].is_err(), "not known to be ours");
    assert!(plain.deliver(again(b"body", true)).await[0].is_ok(), "ours");
    assert!(plain.deliver(again(b"bodY", true)).await[0].is_err(), "another's");
    assert!(plain.deliver(again(b"body+", true)).await[0].is_err(), "another's");
    let by_id = sink(folder.path(), "%MessageID%.xml", CopyMode::CreateNew);
    assert!(by_id.deliver(again(b"body", false)).await[0].is_ok());
    assert!(by_id.deliver(again(b"body", false)).await[0].is_ok(), "its name says that it is ours");
    assert!(by_id.deliver(again(b"other", false)).await[0].is_err());
    assert_eq!(names(folder.path()), [format!("{}.xml", id(1)), "a".to_owned()]);
}

#[tokio::test]
async fn rests_of_earlier_tries() {
    let folder = folder();
    let temporary = |number| format!(".baton-{}", id(number));
    for number in [1, 2, 3] {
        write(folder.path(), &temporary(number), b"half");
    }
    write(folder.path(), ".baton-mine", b"not ours");
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    for name in [temporary(2), ".baton-mine".to_owned()] {
        let file = fs::File::options().write(true).open(folder.path().join(name)).expect("open");
        file.set_modified(old).expect("an old file");
    }
    // Someone has put a link where our file would be written.
    let victim = folder.path().join("victim");
    fs::write(&victim, b"untouched").expect("a file");
    symlink(&victim, folder.path().join(temporary(4))).expect("a link");
    let sink = sink(folder.path(), "%SourceFileName%", CopyMode::CreateNew);
    let results = sink.deliver(vec![delivery(1, "a", b"whole"), delivery(4, "d", b"mine")]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(
        names(folder.path()),
        [".baton-01991e4c-6f00-7000-8000-000000000003", ".baton-mine", "a", "d", "victim"]
    );
    assert_eq!(fs::read(folder.path().join("a")).expect("the file"), b"whole");
    assert_eq!(fs::read(&victim).expect("the file"), b"untouched");
}

#[tokio::test]
async fn a_folder_that_is_not_there() {
    let folder = folder();
    let sink = sink(&folder.path().join("nowhere"), "%MessageID%", CopyMode::CreateNew);
    let results = sink.deliver(vec![delivery(1, "a", b"a"), delivery(2, "b", b"b")]).await;
    for result in results {
        assert!(matches!(&result, Err(AdapterError::Refused(t)) if t.contains("nowhere")));
    }
    for file_name in ["", "sub/%MessageID%"] {
        let setting = FileSend {
            folder: folder.path().to_path_buf(),
            file_name: file_name.to_owned(),
            copy_mode: CopyMode::CreateNew,
        };
        assert!(adapters::sink(&SendKind::File(setting)).is_err());
    }
}

/// Says how fast; asserts only what a machine under load can hold.
#[tokio::test]
async fn many_small_files() {
    let folder = folder();
    let sink = sink(folder.path(), "%MessageID%", CopyMode::CreateNew);
    let body = noise(1024);
    let begun = Instant::now();
    for batch in 0..20 {
        let batch = (0..100).map(|at| delivery(batch * 100 + at, "x", &body)).collect();
        assert!(sink.deliver(batch).await.iter().all(Result::is_ok));
    }
    println!("2000 files of 1 KiB in {:?}", begun.elapsed());
    assert_eq!(names(folder.path()).len(), 2000);
}
