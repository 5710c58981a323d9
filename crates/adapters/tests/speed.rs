//! How fast, beside `lftp mirror --parallel=4`. Not for every run:
//! `cargo test --release -p adapters --test speed -- --ignored --nocapture`

mod common;

use std::fs;
use std::process::Command;
use std::time::Instant;

use adapter::{Item, Session};
use common::{Kept, fetch, ftp, list, noise};
use futures_util::future::join_all;
use model::definition::TlsMode;
use testbed::{FtpKind, FtpOptions, FtpServer, FtpTls, or_skip};

const FILES: usize = 10_000;
const SESSIONS: usize = 4;

async fn fetch_all(session: &mut dyn Session, items: Vec<Item>, and_delete: bool) {
    for item in items {
        assert_eq!(fetch(session, &item, 0).await.expect("the file").len(), 1024);
        if and_delete {
            session.remove(&item).await.expect("removed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; run it in a release build"]
async fn ten_thousand_files() {
    for kind in FtpKind::ALL {
        let Some(server) = or_skip(FtpServer::start(kind, FtpOptions::default())) else {
            return;
        };
        let body = noise(1024);
        let first = server.put("00000", &body).expect("put");
        for number in 1..FILES {
            let path = first.with_file_name(format!("{number:05}"));
            fs::write(&path, &body).expect("a file");
            fs::set_permissions(&path, fs::metadata(&first).expect("metadata").permissions())
                .expect("permissions");
        }
        let into = tempfile::tempdir().expect("a folder");
        let begun = Instant::now();
        let script = format!("mirror --parallel={SESSIONS} /files {}; bye", into.path().display());
        let login = format!("{},{}", server.user(), server.password());
        let url = format!("ftp://127.0.0.1:{}", server.port());
        let status = Command::new("lftp").args(["-u", &login, "-e", &script, &url]).status();
        println!("{kind}: lftp {:?} ({status:?})", begun.elapsed());

        let setting = ftp(server.port(), server.user(), server.password());
        let begun = Instant::now();
        let mut sessions = join_all((0..SESSIONS).map(|_| common::connect(&setting))).await;
        let (items, _) = list(&mut *sessions[0]).await.expect("a listing");
        let listed = begun.elapsed();
        let items: Vec<Item> = items.into_values().collect();
        // Pure-FTPd lists 10,000 names at most, `.` and `..` among them.
        assert!(items.len() >= FILES - 2, "{}", items.len());
        let parts = items.chunks(items.len().div_ceil(SESSIONS)).map(<[Item]>::to_vec);
        let tasks = sessions.iter_mut().zip(parts);
        join_all(tasks.map(|(session, part)| fetch_all(&mut **session, part, false))).await;
        println!("{kind}: ours {:?} (listed in {listed:?})", begun.elapsed());
    }
}

#[tokio::test]
#[ignore = "takes a minute; run it in a release build"]
async fn a_quarter_of_a_gigabyte() {
    for (kind, tls) in [
        (FtpKind::Vsftpd, FtpTls::Off),
        (FtpKind::Proftpd, FtpTls::Off),
        (FtpKind::PureFtpd, FtpTls::Off),
        (FtpKind::Vsftpd, FtpTls::Explicit),
        (FtpKind::Proftpd, FtpTls::Explicit),
        (FtpKind::PureFtpd, FtpTls::Explicit),
    ] {
        let options = FtpOptions { tls, ..FtpOptions::default() };
        let Some(server) = or_skip(FtpServer::start(kind, options)) else {
            return;
        };
        server.put("big", &vec![7; 256 << 20]).expect("put");
        let mut setting = ftp(server.port(), server.user(), server.password());
        let ca = tempfile::NamedTempFile::new().expect("a file");
        if let Some(pem) = server.ca_pem() {
            fs::write(ca.path(), pem).expect("the authority");
            setting.ca_file = Some(ca.path().to_path_buf());
            setting.tls = TlsMode::Explicit;
        }
        let mut session = common::connect(&setting).await;
        let (items, _) = list(&mut *session).await.expect("a listing");
        let begun = Instant::now();
        let mut kept = Kept { only_count: true, ..Kept::default() };
        session.fetch(&items["big"], 0, &mut kept).await.expect("the file");
        println!("{kind} {tls:?}: {:.0} MiB/s", 256.0 / begun.elapsed().as_secs_f64());
    }
}
