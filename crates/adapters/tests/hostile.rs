//! The FTP adapter against servers that lie, hang, cut and talk too much.
//!
//! What is tested is one rule: no reply is ever taken for another command's, whatever happens; and
//! that nothing waits for ever or eats memory without bound.

mod common;
mod scripted;

use std::time::{Duration, Instant};

use adapter::{AdapterError, Item, Result, Session, Sighting};
use common::{Kept, list};
use model::definition::{FtpReceive, ReceiveKind};
use scripted::Act::{self, *};
use scripted::Server;

fn item() -> Item {
    let sighting = Sighting { bytes: Some(5), modified_ms: None, coarse: true };
    Item { path: b"/out/a.xml".to_vec(), name: "a.xml".to_owned(), sighting }
}

#[track_caller]
fn unavailable<T>(result: Result<T>) -> String {
    match result {
        Err(AdapterError::Unavailable(text)) => text,
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("no error"),
    }
}

async fn fetch(session: &mut dyn Session) -> Result<()> {
    session.fetch(&item(), 0, &mut Kept::default()).await
}

/// The session is dead: it says so, and the server hears nothing of the commands.
async fn is_dead(server: &Server, mut session: Box<dyn Session>) {
    unavailable(session.remove(&item()).await);
    unavailable(session.look(&item()).await);
    unavailable(fetch(&mut *session).await);
    unavailable(list(&mut *session).await);
    unavailable(session.keep_alive().await);
    assert_eq!(server.heard("DELE"), 0);
}

#[tokio::test]
async fn a_polite_server_is_served() {
    let server = Server::start(vec![]);
    let mut session = server.session().await;
    let (items, listed) = list(&mut *session).await.expect("a listing");
    assert_eq!((items.len(), listed), (1, adapter::Listed::default()));
    fetch(&mut *session).await.expect("the file");
    session.remove(&item()).await.expect("removed");
}

#[test]
fn addresses_name_user_server_folder_and_mask_but_no_password() {
    let address = |change: fn(&mut FtpReceive)| {
        let mut setting = common::ftp(2121, "acme", "hunter2");
        change(&mut setting);
        adapters::source(&ReceiveKind::Ftp(setting)).expect("a source").address()
    };
    assert_eq!(address(|_| {}), "ftp://acme@127.0.0.1:2121/files/*");
    let changed = address(|setting| {
        setting.folder = String::new();
        setting.tls = model::definition::TlsMode::Implicit;
        setting.port = None;
        setting.file_mask = "*.xml".to_owned();
    });
    assert_eq!(changed, "ftps://acme@127.0.0.1:990/*.xml");
    for adapter in adapters::ADAPTERS {
        assert!(matches!(adapter.receive_concurrency(), adapter::Concurrency::OneBecause(_)));
    }
}

#[tokio::test]
async fn greetings_from_hell() {
    for (act, expected) in [
        (Silence, "did not answer in 1s"),
        (Trickle, "did not answer in 1s"),
        (Close, "closed the connection"),
        (Endless("220 x"), "more than 65536 bytes"),
        (Endless("220-x\r\n"), "more than 65536 bytes"),
        (Say("SSH-2.0-OpenSSH_9.2\r\n"), "does not speak FTP"),
        (Say("\0\u{1}\r\n"), "does not speak FTP"),
        (Say("\r\n"), "does not speak FTP"),
        (Say("999 hello\r\n"), "does not speak FTP"),
        (Say("421 too many users\r\n"), "421 too many users"),
        (Say("220 hello\r\n220 again\r\n"), "answered twice"),
    ] {
        let begun = Instant::now();
        let server = Server::start(vec![("", act.clone())]);
        let said = unavailable(server.connect().await);
        assert!(said.contains(expected), "{act:?}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{act:?}");
    }
}

#[tokio::test]
async fn every_step_of_the_login_may_fail() {
    for verb in ["USER", "PASS", "FEAT", "TYPE", "CWD"] {
        for act in [Silence, Close, Say("what?\r\n"), Say("150 wait\r\n"), Endless("2")] {
            let server = Server::start(vec![(verb, act.clone())]);
            let begun = Instant::now();
            unavailable(server.connect().await);
            assert!(begun.elapsed() < Duration::from_secs(5), "{verb} {act:?}");
        }
    }
}

#[tokio::test]
async fn the_password_is_never_repeated() {
    let server = Server::start(vec![("PASS", Say("530 hunter2 is wrong\r\n"))]);
    let refused = server.connect().await.err().expect("refused").to_string();
    assert!(refused.contains("user acme") && !refused.contains("hunter2"), "{refused}");

    let mut setting = server.setting();
    setting.password = "hunter2\r\nDELE a".to_owned();
    let source = adapters::source(&ReceiveKind::Ftp(setting)).expect("a source");
    let refused = source.connect().await.err().expect("refused").to_string();
    assert!(!refused.contains("hunter2"), "{refused}");
    assert_eq!(server.heard("DELE"), 0);
}

#[tokio::test]
async fn settings_and_names_cannot_smuggle_commands() {
    let server = Server::start(vec![]);
    for change in [
        |setting: &mut FtpReceive| setting.user = "a\r\nDELE x".to_owned(),
        |setting: &mut FtpReceive| setting.folder = "a\nDELE x".to_owned(),
    ] {
        let mut setting = server.setting();
        change(&mut setting);
        assert!(adapters::source(&ReceiveKind::Ftp(setting)).is_err());
    }
    let mut session = server.session().await;
    for name in ["a\r\nDELE x", "a\nDELE x", "a\0"] {
        let item = Item { path: format!("/out/{name}").into_bytes(), ..item() };
        for result in [
            session.remove(&item).await,
            session.look(&item).await.map(|_| ()),
            session.fetch(&item, 0, &mut Kept::default()).await,
            session.move_to(&item, "done").await,
        ] {
            assert!(result.is_err());
        }
    }
    assert_eq!(server.heard("DELE"), 0);
}

#[tokio::test]
async fn two_replies_to_one_command() {
    let server = Server::start(vec![("NOOP", Say("200 ok\r\n250 deleted\r\n"))]);
    let mut session = server.session().await;
    let said = unavailable(session.keep_alive().await);
    assert!(said.contains("answered twice"), "{said}");
    is_dead(&server, session).await;
}

#[tokio::test]
async fn a_reply_too_many_that_comes_later() {
    for later in ["250 deleted\r\n", "226 ", "421 timeout\r\n"] {
        let server = Server::start(vec![("NOOP", SayThenLater("200 ok\r\n", later))]);
        let mut session = server.session().await;
        session.keep_alive().await.expect("one good answer");
        tokio::time::sleep(Duration::from_millis(300)).await;
        is_dead(&server, session).await;
    }
}

#[tokio::test]
async fn a_dropped_future_leaves_a_dead_session() {
    let server = Server::start(vec![("NOOP", SayThenLater("", "200 ok\r\n"))]);
    let mut session = server.session().await;
    let cut = tokio::time::timeout(Duration::from_millis(20), session.keep_alive()).await;
    assert!(cut.is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_dead(&server, session).await;
}

#[tokio::test]
async fn a_command_that_gets_no_answer() {
    for act in [Silence, Trickle, Close, Say("200"), Say("2\r\n"), Say("abc def\r\n")] {
        let server = Server::start(vec![("NOOP", act)]);
        let mut session = server.session().await;
        unavailable(session.keep_alive().await);
        is_dead(&server, session).await;
    }
}

#[tokio::test]
async fn transfers_that_go_wrong() {
    let whole = || b"12345".to_vec();
    for (act, expected) in [
        (Data(whole(), "426 cut\r\n"), "426 cut"),
        (Data(whole(), "451 disk error\r\n"), "451 disk error"),
        (Data(whole(), "200 what\r\n"), "200 what"),
        (Data(whole(), "226 done\r\n250 deleted\r\n"), "answered twice"),
        (Data(whole(), ""), "did not answer"),
        (DataSilence, "sent no data for 1s"),
        (Silence, "did not answer"),
        (Close, ""), // which of its connections closes first is chance
        (Say("226 done\r\n"), "at once"),
        (Say("150 here\r\n"), "sent no data"),
        (Say("150 here\r\n226 done\r\n250 deleted\r\n"), "sent no data"),
        (Say("425 no\r\n"), "425 no"),
    ] {
        let server = Server::start(vec![("RETR", act.clone())]);
        let mut session = server.session().await;
        let said = unavailable(fetch(&mut *session).await);
        assert!(said.contains(expected), "{act:?}: {said}");
        is_dead(&server, session).await;
    }
}

/// The server says 226, but the bytes are fewer or more than it listed.
#[tokio::test]
async fn a_file_of_another_size() {
    for bytes in ["1234", "123456"] {
        let server = Server::start(vec![("RETR", Data(bytes.into(), "226 done\r\n"))]);
        let mut session = server.session().await;
        let changed = fetch(&mut *session).await;
        assert!(matches!(changed, Err(AdapterError::Item(_))), "{changed:?}");
        session.keep_alive().await.expect("the session is fine");
    }
}

/// The server lists a few bytes and then sends without end: neither memory nor the store may fill.
#[tokio::test]
async fn a_file_without_end() {
    let endless = vec![b'x'; 8 * 1024 * 1024];
    let server = Server::start(vec![("RETR", Data(endless, "226 done\r\n"))]);
    let mut session = server.session().await;
    let said = unavailable(fetch(&mut *session).await);
    assert!(said.contains("far more than the 5 bytes"), "{said}");
    is_dead(&server, session).await;
}

#[tokio::test]
async fn missing_or_denied() {
    let no = Say("550 no\r\n");
    let cases: [(Vec<(&'static str, Act)>, bool); 4] = [
        (vec![("DELE", no.clone())], false),
        (vec![("DELE", no.clone()), ("SIZE", no.clone())], false),
        (vec![("DELE", no.clone()), ("SIZE", no.clone()), ("MDTM", no.clone())], true),
        (vec![("DELE", no.clone()), ("SIZE", Say("502 what\r\n")), ("MDTM", no)], true),
    ];
    for (acts, expected) in cases {
        let server = Server::start(acts.clone());
        let mut session = server.session().await;
        let removed = session.remove(&item()).await;
        let is_gone = matches!(removed, Err(AdapterError::Gone(_)));
        assert!(is_gone || matches!(removed, Err(AdapterError::Item(_))), "{removed:?}");
        assert_eq!(is_gone, expected, "{acts:?}");
    }
}

#[tokio::test]
async fn delete_is_done_only_when_the_server_says_so() {
    for act in [Say("226 done\r\n"), Say("350 more?\r\n"), Say("150 wait\r\n"), Say("220 hi\r\n")] {
        let server = Server::start(vec![("DELE", act)]);
        let mut session = server.session().await;
        unavailable(session.remove(&item()).await);
        unavailable(session.keep_alive().await);
    }
}

#[tokio::test]
async fn a_line_without_end_in_a_listing() {
    let mut bytes = vec![b'x'; 10 << 20];
    bytes.extend_from_slice(b"\r\n-rw-r--r-- 1 f f 5 Nov 23 12:00 a.xml\r\n");
    let server = Server::start(vec![("LIST", Data(bytes, "226 done\r\n"))]);
    let (items, listed) = list(&mut *server.session().await).await.expect("a listing");
    assert_eq!(items.len(), 1);
    assert_eq!(listed.not_understood.len(), 1);
    assert!(listed.not_understood[0].len() <= 200);
}

#[tokio::test]
async fn garbage_lines_are_counted_and_bounded() {
    let mut bytes = b"\x1b[2Jevil\xff\r\n".repeat(10_000);
    bytes.extend_from_slice(b"-rw-r--r-- 1 f f 5 Nov 23 12:00 a.xml\r\n");
    bytes.extend_from_slice(b"-rw-r--r-- 1 f f 5 Nov 23 12:00 ../../etc/passwd\r\n");
    let server = Server::start(vec![("LIST", Data(bytes, "226 done\r\n"))]);
    let (items, listed) = list(&mut *server.session().await).await.expect("a listing");
    assert_eq!(items.keys().collect::<Vec<_>>(), ["a.xml"]);
    assert_eq!(listed.not_understood.len(), 51);
    assert!(listed.not_understood.iter().all(|line| !line.contains('\x1b')));
}

#[tokio::test]
async fn a_listing_that_is_cut() {
    let line = b"-rw-r--r-- 1 f f 5 Nov 23 12:00 a.xml\r\n-rw-r--r-- 1 f f 5 Nov 2".to_vec();
    for text in ["426 cut\r\n", "", "what\r\n"] {
        let server = Server::start(vec![("LIST", Data(line.clone(), text))]);
        let mut session = server.session().await;
        unavailable(list(&mut *session).await);
        is_dead(&server, session).await;
    }
}

#[tokio::test]
async fn passive_replies_from_hell() {
    let server = Server::start(vec![("EPSV", Say("500 what\r\n"))]);
    fetch(&mut *server.session().await).await.expect("PASV with a strange address works");
    assert_eq!((server.heard("EPSV"), server.heard("PASV")), (1, 1));
    for text in ["227 nonsense\r\n", "227 (1,2,3)\r\n", "500 no\r\n", "227 (1,2,3,4,0,1)\r\n"] {
        let server = Server::start(vec![("EPSV", Say("500 what\r\n")), ("PASV", Say(text))]);
        unavailable(fetch(&mut *server.session().await).await);
        assert_eq!(server.heard("RETR"), usize::from(text.contains("4,0,1")), "{text}");
    }
}

#[tokio::test]
async fn what_a_source_learns_holds_for_its_next_session() {
    let server = Server::start(vec![
        ("EPSV", Say("500 what\r\n")),
        ("FEAT", Say("211-Features\r\n MLST type*;size*;modify*;\r\n211 end\r\n")),
        ("MLSD", Say("500 what\r\n")),
    ]);
    let source = adapters::source(&ReceiveKind::Ftp(server.setting())).expect("a source");
    for _ in 0..3 {
        let mut session = source.connect().await.expect("a session");
        assert_eq!(list(&mut *session).await.expect("a listing").0.len(), 1);
    }
    assert_eq!((server.heard("EPSV"), server.heard("MLSD"), server.heard("LIST")), (1, 1, 3));
}

#[tokio::test]
async fn a_form_that_nobody_knows_falls_back_to_names() {
    let vms = b"A.XML;1   3/4  23-NOV-2026 12:00  [G,O]  (RWED,RWED,RE,)\r\n".to_vec();
    let what = Say("502 what\r\n");
    let server = Server::start(vec![
        ("LIST", Data(vms, "226 done\r\n")),
        ("FEAT", what.clone()),
        ("SIZE", what.clone()),
        ("MDTM", what),
    ]);
    let mut session = server.session().await;
    let (items, listed) = list(&mut *session).await.expect("a listing");
    assert_eq!(items["a.xml"].sighting, Sighting::default());
    assert!(listed.weak_identity.is_some_and(|why| why.contains("MDTM")));
    assert_eq!(session.look(&items["a.xml"]).await.expect("there"), Sighting::default());
    let ghost = Item { path: b"/out/b.xml".to_vec(), ..item() };
    assert!(matches!(session.look(&ghost).await, Err(AdapterError::Gone(_))));
}

#[tokio::test]
async fn an_empty_folder_is_no_error() {
    for text in ["550 No files found\r\n", "450 No files found.\r\n"] {
        let server = Server::start(vec![("LIST", Say(text))]);
        let mut session = server.session().await;
        assert_eq!(list(&mut *session).await.expect("no error").0.len(), 0, "{text}");
        session.keep_alive().await.expect("alive");
    }
    let server = Server::start(vec![("LIST", Say("550 Permission denied\r\n"))]);
    let refused = list(&mut *server.session().await).await.err();
    assert!(matches!(refused, Some(AdapterError::Refused(_))), "{refused:?}");
}
