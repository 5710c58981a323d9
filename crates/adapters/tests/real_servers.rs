//! The FTP adapter against vsftpd, ProFTPD and Pure-FTPd, in clear and with TLS.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use adapter::{AdapterError, Item, Sighting};
use common::{Kept, fetch, ftp, list, noise};
use model::definition::{DataMode, FtpReceive, ListingMode, TlsMode, TlsVersion};
use testbed::{FtpKind, FtpOptions, FtpServer, FtpTls, or_skip};

/// A running server and the settings that reach it.
struct Partner {
    server: FtpServer,
    setting: FtpReceive,
    _ca: tempfile::NamedTempFile,
}

fn start(kind: FtpKind, tls: FtpTls) -> Option<Partner> {
    let options = FtpOptions { tls, ..FtpOptions::default() };
    let server = or_skip(FtpServer::start(kind, options))?;
    let mut setting = ftp(server.port(), server.user(), server.password());
    setting.folder = server.folder().to_owned();
    setting.tls = match tls {
        FtpTls::Off => TlsMode::Off,
        FtpTls::Explicit => TlsMode::Explicit,
        FtpTls::Implicit => TlsMode::Implicit,
    };
    let ca = tempfile::NamedTempFile::new().expect("a file");
    if let Some(pem) = server.ca_pem() {
        fs::write(ca.path(), pem).expect("the authority's file");
        setting.ca_file = Some(ca.path().to_path_buf());
    }
    Some(Partner { server, setting, _ca: ca })
}

fn item(folder: &str, name: &str) -> Item {
    let path = format!("{folder}/{name}").into_bytes();
    Item { path, name: name.to_owned(), sighting: Sighting::default() }
}

/// Everything that the driver does with a file, on one session.
async fn whole_life(partner: &Partner) {
    let Partner { server, setting, .. } = partner;
    let content = noise(300_000);
    server.put("order one.xml", &content).expect("put");
    server.put("empty.xml", b"").expect("put");
    server.put("sub/inner.xml", b"not for us").expect("put");
    let mut session = common::connect(setting).await;
    let (items, listed) = list(&mut *session).await.expect("a listing");
    assert_eq!(listed.not_understood, Vec::<String>::new());
    assert_eq!(listed.weak_identity, None);
    assert_eq!(items.keys().collect::<Vec<_>>(), ["empty.xml", "order one.xml"]);
    let order = &items["order one.xml"];
    assert_eq!(order.sighting.bytes, Some(300_000));
    assert_eq!(order.path, b"/files/order one.xml");

    let looked = session.look(order).await.expect("a look");
    assert_eq!((looked.bytes, looked.coarse), (Some(300_000), false));
    assert!(looked.modified_ms.is_some());
    let again = session.look(order).await.expect("a second look");
    assert_eq!(looked, again);

    assert_eq!(fetch(&mut *session, order, 0).await.expect("the file"), content);
    assert_eq!(fetch(&mut *session, order, 299_999).await.expect("its end"), &content[299_999..]);
    assert_eq!(fetch(&mut *session, order, 100_001).await.expect("the rest"), &content[100_001..]);
    assert_eq!(fetch(&mut *session, &items["empty.xml"], 0).await.expect("nothing"), b"");

    missing_files(&mut *session).await;
    session.keep_alive().await.expect("still alive");
    session.remove(order).await.expect("removed");
    assert!(matches!(session.remove(order).await, Err(AdapterError::Gone(_))));
    assert!(!server.root().join("order one.xml").exists());
    moves(server, &mut *session).await;
    session.close().await;
}

async fn missing_files(session: &mut dyn adapter::Session) {
    let ghost = item("/files", "ghost.xml");
    let gone = |error: AdapterError| assert!(matches!(error, AdapterError::Gone(_)), "{error:?}");
    gone(session.look(&ghost).await.expect_err("no ghost"));
    gone(fetch(session, &ghost, 0).await.expect_err("no ghost"));
    gone(session.remove(&ghost).await.expect_err("no ghost"));
    gone(session.move_to(&ghost, "/files/done").await.expect_err("no ghost"));
    session.keep_alive().await.expect("an item that is gone does not harm the session");
}

async fn moves(server: &FtpServer, session: &mut dyn adapter::Session) {
    server.make_folder("done").expect("a folder");
    for expected in ["a.xml", "a.xml.1", "a.xml.2"] {
        server.put("a.xml", expected.as_bytes()).expect("put");
        session.move_to(&item("/files", "a.xml"), "done").await.expect("moved");
        let moved = fs::read(server.root().join("done").join(expected)).expect("the moved file");
        assert_eq!(moved, expected.as_bytes());
    }
    server.put("b.xml", b"b").expect("put");
    session.move_to(&item("/files", "b.xml"), "/files/done/").await.expect("moved");
    assert!(server.root().join("done/b.xml").exists());
    server.put("c.xml", b"c").expect("put");
    let refused = session.move_to(&item("/files", "c.xml"), "/files/nowhere").await;
    assert!(matches!(refused, Err(AdapterError::Item(_))), "{refused:?}");
    assert!(server.root().join("c.xml").exists());
    session.keep_alive().await.expect("a refused move does not harm the session");
}

async fn life_with(kind: FtpKind, tls: FtpTls, change: impl FnOnce(&mut FtpReceive)) {
    let Some(mut partner) = start(kind, tls) else {
        return;
    };
    change(&mut partner.setting);
    whole_life(&partner).await;
}

macro_rules! lives {
    ($($name:ident: $kind:ident $tls:ident $change:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            life_with(FtpKind::$kind, FtpTls::$tls, $change).await;
        }
    )*};
}

lives! {
    vsftpd_plain: Vsftpd Off |_| {};
    vsftpd_explicit: Vsftpd Explicit |_| {};
    vsftpd_implicit: Vsftpd Implicit |_| {};
    vsftpd_explicit_1_2: Vsftpd Explicit |s| s.tls_max = TlsVersion::V1_2;
    vsftpd_pasv: Vsftpd Off |s| s.data_mode = DataMode::PassivePasv;
    vsftpd_active: Vsftpd Off |s| s.data_mode = DataMode::Active;
    vsftpd_active_explicit: Vsftpd Explicit |s| s.data_mode = DataMode::Active;
    vsftpd_list: Vsftpd Off |s| s.listing = ListingMode::List;
    proftpd_plain: Proftpd Off |_| {};
    proftpd_explicit: Proftpd Explicit |_| {};
    proftpd_implicit: Proftpd Implicit |_| {};
    proftpd_explicit_1_2: Proftpd Explicit |s| s.tls_max = TlsVersion::V1_2;
    proftpd_pasv: Proftpd Off |s| s.data_mode = DataMode::PassivePasv;
    proftpd_active: Proftpd Off |s| s.data_mode = DataMode::Active;
    proftpd_active_explicit: Proftpd Explicit |s| s.data_mode = DataMode::Active;
    proftpd_list: Proftpd Off |s| s.listing = ListingMode::List;
    pureftpd_plain: PureFtpd Off |_| {};
    pureftpd_explicit: PureFtpd Explicit |_| {};
    pureftpd_explicit_1_2: PureFtpd Explicit |s| s.tls_max = TlsVersion::V1_2;
    pureftpd_pasv: PureFtpd Off |s| s.data_mode = DataMode::PassivePasv;
    pureftpd_active: PureFtpd Off |s| s.data_mode = DataMode::Active;
    pureftpd_active_explicit: PureFtpd Explicit |s| s.data_mode = DataMode::Active;
    pureftpd_list: PureFtpd Off |s| s.listing = ListingMode::List;
}

#[tokio::test]
async fn names_alone_are_enough() {
    for kind in FtpKind::ALL {
        let Some(mut partner) = start(kind, FtpTls::Off) else {
            return;
        };
        partner.setting.listing = ListingMode::Nlst;
        partner.server.put("two words.xml", b"12345").expect("put");
        let mut session = common::connect(&partner.setting).await;
        let (items, listed) = list(&mut *session).await.expect("a listing");
        assert_eq!(listed, adapter::Listed::default(), "{kind}");
        let item = &items["two words.xml"];
        assert_eq!(item.sighting, Sighting::default(), "{kind}");
        assert_eq!(item.identity(), None);
        assert_eq!(session.look(item).await.expect("a look").bytes, Some(5), "{kind}");
        assert_eq!(fetch(&mut *session, item, 0).await.expect("the file"), b"12345", "{kind}");
    }
}

/// A relative folder is found, and its paths are the same as those of the absolute one.
#[tokio::test]
async fn relative_folders() {
    for kind in FtpKind::ALL {
        let Some(mut partner) = start(kind, FtpTls::Off) else {
            return;
        };
        partner.server.put("a.xml", b"a").expect("put");
        partner.setting.folder = "files".to_owned();
        let mut session = common::connect(&partner.setting).await;
        let (items, _) = list(&mut *session).await.expect("a listing");
        assert_eq!(items["a.xml"].path, b"/files/a.xml", "{kind}");
    }
}

/// Sent back byte for byte: not UTF-8, spaces at the ends, dashes, wildcards, Telnet's 255.
#[tokio::test]
async fn odd_names() {
    use std::os::unix::ffi::OsStrExt;
    let names: [&[u8]; 9] = [
        b"k\xe4se.xml",
        b" led",
        b"trail ",
        b"-rf",
        b"a*b?[c]",
        "größe.xml".as_bytes(),
        b"say \"hi\"",
        b"back\\slash",
        b"y\xff\xffy",
    ];
    for kind in FtpKind::ALL {
        let Some(partner) = start(kind, FtpTls::Off) else {
            return;
        };
        let first = partner.server.put("first", b"x").expect("put");
        for name in names {
            let path = partner.server.root().join(std::ffi::OsStr::from_bytes(name));
            fs::copy(&first, &path).expect("a copy");
            fs::write(&path, name).expect("its content");
        }
        fs::remove_file(&first).expect("remove");
        let mut session = common::connect(&partner.setting).await;
        let (items, _) = list(&mut *session).await.expect("a listing");
        let mut failed = Vec::new();
        // Pure-FTPd refuses backslashes: `553 Prohibited file name`.
        for name in names.iter().filter(|n| kind != FtpKind::PureFtpd || !n.contains(&b'\\')) {
            let path = [b"/files/", *name].concat();
            let Some(item) = items.values().find(|item| item.path == path) else {
                failed.push(format!("{} is not listed", name.escape_ascii()));
                continue;
            };
            match fetch(&mut *session, item, 0).await {
                Ok(content) => assert_eq!(content, *name, "{kind}"),
                Err(error) => failed.push(format!("{}: {error}", name.escape_ascii())),
            }
            if let Err(error) = session.remove(item).await {
                failed.push(format!("{}: {error}", name.escape_ascii()));
            }
        }
        assert_eq!(failed, Vec::<String>::new(), "{kind}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_without_it() {
    for kind in [FtpKind::Proftpd, FtpKind::PureFtpd] {
        let Some(mut partner) = start(kind, FtpTls::Off) else {
            return;
        };
        partner.setting.password = "opensesame".to_owned();
        let source = adapters::source(&model::definition::ReceiveKind::Ftp(partner.setting));
        let refused = source.expect("a source").connect().await.err().expect("refused");
        let text = refused.to_string();
        assert!(matches!(refused, AdapterError::Refused(_)), "{text}");
        assert!(text.contains("refused the login of user partner: 530"), "{text}");
        assert!(!text.contains("opensesame"), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_folder_and_a_wrong_certificate_are_refused() {
    let Some(mut partner) = start(FtpKind::Vsftpd, FtpTls::Explicit) else {
        return;
    };
    partner.setting.folder = "/nowhere".to_owned();
    let connect = |setting: &FtpReceive| {
        adapters::source(&model::definition::ReceiveKind::Ftp(setting.clone())).expect("a source")
    };
    let refused = connect(&partner.setting).connect().await.err().expect("no folder");
    assert!(matches!(&refused, AdapterError::Refused(t) if t.contains("/nowhere")), "{refused}");
    partner.setting.ca_file = None;
    let refused = connect(&partner.setting).connect().await.err().expect("not trusted");
    assert!(matches!(&refused, AdapterError::Refused(t) if t.contains("ca_file")), "{refused}");
}

/// 60 data connections on each server that demands TLS session reuse, at its default TLS version.
#[tokio::test]
async fn session_reuse_lasts() {
    for kind in FtpKind::ALL {
        let Some(partner) = start(kind, FtpTls::Explicit) else {
            return;
        };
        for number in 0..60 {
            partner.server.put(&format!("{number}"), &noise(number * 100)).expect("put");
        }
        let source = adapters::source(&model::definition::ReceiveKind::Ftp(partner.setting));
        let source = source.expect("a source");
        let mut one = source.connect().await.expect("a session");
        let mut other = source.connect().await.expect("a second session");
        let (items, _) = list(&mut *one).await.expect("a listing");
        assert_eq!(items.len(), 60, "{kind}");
        for (at, (name, item)) in items.iter().enumerate() {
            let session = if at % 2 == 0 { &mut one } else { &mut other };
            let bytes = fetch(&mut **session, item, 0).await.expect("the file");
            assert_eq!(bytes.len(), name.parse::<usize>().expect("a number") * 100, "{kind}");
        }
    }
}

#[tokio::test]
async fn five_thousand_files() {
    for kind in FtpKind::ALL {
        let Some(partner) = start(kind, FtpTls::Off) else {
            return;
        };
        let first = partner.server.put("0000.xml", b"0123456789").expect("put");
        for number in 1..5000 {
            fs::write(first.with_file_name(format!("{number:04}.xml")), b"0123456789")
                .expect("a file");
        }
        let mut session = common::connect(&partner.setting).await;
        let begun = Instant::now();
        let (items, listed) = list(&mut *session).await.expect("a listing");
        assert_eq!((items.len(), listed.not_understood.len()), (5000, 0), "{kind}");
        println!("{kind}: 5000 files listed in {:?}", begun.elapsed());
        let begun = Instant::now();
        for item in items.values().take(1000) {
            assert_eq!(fetch(&mut *session, item, 0).await.expect("a file").len(), 10, "{kind}");
        }
        println!("{kind}: 1000 files fetched in {:?} by one session", begun.elapsed());
    }
}

/// Pure-FTPd cuts a listing at 10,000 names and calls it a success; the operator must hear of it.
#[tokio::test]
async fn a_truncated_listing_is_said() {
    let Some(partner) = start(FtpKind::PureFtpd, FtpTls::Off) else {
        return;
    };
    let first = partner.server.put("00000", b"").expect("put");
    for number in 1..10_010 {
        fs::write(first.with_file_name(format!("{number:05}")), b"").expect("a file");
    }
    for listing in [ListingMode::Mlsd, ListingMode::List] {
        let setting = FtpReceive { listing, ..partner.setting.clone() };
        let mut session = common::connect(&setting).await;
        let (items, listed) = list(&mut *session).await.expect("a listing");
        assert!(items.len() < 10_010);
        let said = listed.not_understood.concat();
        assert!(said.contains("truncated"), "{listing:?} {} {said:?}", items.len());
    }
}

/// A receiver that has heard enough gets no error, and the session goes on.
#[tokio::test]
async fn a_listing_that_nobody_hears_to_the_end() {
    for kind in FtpKind::ALL {
        let Some(partner) = start(kind, FtpTls::Off) else {
            return;
        };
        for number in 0..300 {
            partner.server.put(&format!("{number}"), b"x").expect("put");
        }
        let mut session = common::connect(&partner.setting).await;
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let hear = async move {
            let first = receiver.recv().await;
            assert!(first.is_some());
        };
        let (listed, ()) = tokio::join!(session.list(sender), hear);
        listed.expect("no error");
        session.keep_alive().await.expect("alive");
        assert_eq!(list(&mut *session).await.expect("a listing").0.len(), 300, "{kind}");
    }
}

#[tokio::test]
async fn a_big_file_streams() {
    const BYTES: usize = 64 * 1024 * 1024;
    for (kind, tls) in [
        (FtpKind::Vsftpd, FtpTls::Off),
        (FtpKind::Proftpd, FtpTls::Explicit),
        (FtpKind::PureFtpd, FtpTls::Explicit),
    ] {
        let Some(partner) = start(kind, tls) else {
            return;
        };
        partner.server.put("big", &vec![b'x'; BYTES]).expect("put");
        let mut session = common::connect(&partner.setting).await;
        let (items, _) = list(&mut *session).await.expect("a listing");
        let mut kept = Kept { only_count: true, ..Kept::default() };
        let begun = Instant::now();
        session.fetch(&items["big"], 0, &mut kept).await.expect("the file");
        assert_eq!(kept.total, BYTES as u64, "{kind}");
        assert!(kept.longest <= 256 * 1024, "{kind} {}", kept.longest);
        println!("{kind} {tls:?}: 64 MiB in {:?}", begun.elapsed());
    }
}

/// After any failure in the middle, the session answers nothing but "unavailable".
#[tokio::test]
async fn a_broken_session_stays_broken() {
    for kind in FtpKind::ALL {
        let Some(mut partner) = start(kind, FtpTls::Off) else {
            return;
        };
        partner.setting.reply_timeout = model::Millis::seconds(2);
        partner.server.put("big", &vec![b'x'; 8 * 1024 * 1024]).expect("put");
        let (items, _) = list(&mut *common::connect(&partner.setting).await).await.expect("list");
        let big = &items["big"];
        let dead = |result: adapter::Result<()>| {
            assert!(matches!(result, Err(AdapterError::Unavailable(_))), "{kind} {result:?}");
        };

        let mut session = common::connect(&partner.setting).await; // our store fails
        let mut kept = Kept { fail_after: Some(1 << 20), ..Kept::default() };
        dead(session.fetch(big, 0, &mut kept).await);
        dead(session.remove(big).await);

        let mut session = common::connect(&partner.setting).await; // our future is dropped
        let mut kept = Kept { only_count: true, ..Kept::default() };
        let cut = tokio::time::timeout(Duration::ZERO, session.fetch(big, 0, &mut kept)).await;
        assert!(cut.is_err());
        dead(session.remove(big).await);

        let mut session = common::connect(&partner.setting).await; // the server is cut
        partner.server.kill_sessions();
        dead(session.keep_alive().await);
        dead(session.remove(big).await);

        let mut session = common::connect(&partner.setting).await; // the server hangs
        partner.server.freeze();
        dead(session.keep_alive().await);
        partner.server.thaw();
        dead(session.remove(big).await);
        assert!(partner.server.root().join("big").exists());
    }
}
