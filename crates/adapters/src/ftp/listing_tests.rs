//! A corpus of listings as servers write them, and what must become of each line.

use jiff::civil::{DateTime, date, datetime};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

const TODAY: Date = date(2026, 11, 23);

fn check_list(line: &[u8], name: &[u8], bytes: u64, at: DateTime) {
    let when = at.to_zoned(TimeZone::UTC).expect("a date of the corpus").timestamp();
    let expected = Line::File {
        name: name.to_vec(),
        sighting: Sighting {
            bytes: Some(bytes),
            modified_ms: Some(when.as_millisecond()),
            coarse: true,
        },
    };
    assert_eq!(list(line, TODAY), expected, "{}", line.escape_ascii());
}

#[test]
fn files_of_unix_listings() {
    let noon = datetime(2026, 11, 23, 12, 0, 0, 0);
    let old = datetime(2025, 3, 1, 0, 0, 0, 0);
    let corpus: &[(&[u8], &[u8], u64, DateTime)] = &[
        // vsftpd
        (b"-rw-r--r--    1 1000     1000         1024 Nov 23 12:00 a.xml", b"a.xml", 1024, noon),
        (b"-rw-------    1 ftp      ftp     5368709120 Mar 01  2025 big", b"big", 5368709120, old),
        // ProFTPD
        (b"-rw-r--r--   1 partner  partner      1024 Nov 23 12:00 a.xml", b"a.xml", 1024, noon),
        // Pure-FTPd
        (b"-rw-r--r--    1 0          0                1024 Nov 23 12:00 a", b"a", 1024, noon),
        (b"-rw-r--r--    1 0          0                1024 Mar  1  2025 a", b"a", 1024, old),
        // GNU ls, with ACL and SELinux marks
        (b"-rw-r--r--. 1 root root 7 Nov 23 12:00 a", b"a", 7, noon),
        (b"-rw-rw-r--+ 1 root root 7 Nov 23 12:00 a", b"a", 7, noon),
        (b"-rw-r--r-- 1 root root 7 2026-11-23 12:00 a", b"a", 7, noon),
        (b"-rw-r--r-- 1 root root 7 2026-11-23 12:00:00.000000000 +0100 a", b"a", 7, noon),
        // no group, no link count, no owner
        (b"-rw-r--r-- 1 ftp 1024 Nov 23 12:00 a", b"a", 1024, noon),
        (b"-rw-r--r-- ftp ftp 1024 Nov 23 12:00 a", b"a", 1024, noon),
        (b"-rw-r--r-- 1024 Nov 23 12:00 a", b"a", 1024, noon),
        // group with a space, user that is called like a month
        (b"-rw-r--r-- 1 ACME\\jo Domain Users 1024 Nov 23 12:00 a", b"a", 1024, noon),
        (b"-rw-r--r-- 1 may 5 1024 Nov 23 12:00 a", b"a", 1024, noon),
    ];
    for (line, name, bytes, at) in corpus {
        check_list(line, name, *bytes, *at);
    }
}

#[test]
fn odd_names_and_foreign_months_of_unix_listings() {
    let noon = datetime(2026, 11, 23, 12, 0, 0, 0);
    let old = datetime(2025, 3, 1, 0, 0, 0, 0);
    let corpus: &[(&[u8], &[u8], DateTime)] = &[
        // names with spaces, at the start, doubled, at the end; names like a date or a link
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00 two words.txt", b"two words.txt", noon),
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00  led", b" led", noon),
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00 a  b ", b"a  b ", noon),
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00 9 Jan 1 2020 x", b"9 Jan 1 2020 x", noon),
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00 a -> b", b"a -> b", noon),
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00 -rf", b"-rf", noon),
        // names that are not UTF-8
        (b"-rw-r--r-- 1 f f 1 Nov 23 12:00 k\xe4se\xff.txt", b"k\xe4se\xff.txt", noon),
        // other languages, the day first
        (b"-rw-r--r-- 1 f f 1 23. Nov 12:00 a", b"a", noon),
        (b"-rw-r--r-- 1 f f 1 1 mars 2025 a", b"a", old),
        ("-rw-r--r-- 1 f f 1 Mär 1 2025 a".as_bytes(), b"a", old),
        (b"-rw-r--r-- 1 f f 1 M\xe4r 1 2025 a", b"a", old),
        (b"-rw-r--r-- 1 f f 1 Mrz 1 2025 a", b"a", old),
    ];
    for (line, name, at) in corpus {
        check_list(line, name, 1, *at);
    }
}

#[test]
fn the_year_of_a_date_without_one() {
    for (text, at) in [
        // Today, and tomorrow in a zone that is ahead of ours.
        ("Nov 23 23:59", datetime(2026, 11, 23, 23, 59, 0, 0)),
        ("Nov 24 05:00", datetime(2026, 11, 24, 5, 0, 0, 0)),
        // The day after that was last year.
        ("Nov 25 05:00", datetime(2025, 11, 25, 5, 0, 0, 0)),
        ("Dec 31 23:59", datetime(2025, 12, 31, 23, 59, 0, 0)),
        ("Jan  1 00:00", datetime(2026, 1, 1, 0, 0, 0, 0)),
        // The last leap day.
        ("Feb 29 10:00", datetime(2024, 2, 29, 10, 0, 0, 0)),
        ("Feb 29  2024", datetime(2024, 2, 29, 0, 0, 0, 0)),
    ] {
        let line = format!("-rw-r--r-- 1 f f 1 {text} a");
        check_list(line.as_bytes(), b"a", 1, at);
    }
}

#[test]
fn files_of_dos_listings() {
    let at = datetime(2026, 11, 23, 13, 45, 0, 0);
    let corpus: &[(&[u8], &[u8], u64, DateTime)] = &[
        (b"11-23-26  01:45PM                 1024 a.xml", b"a.xml", 1024, at),
        (b"11-23-2026  01:45PM                 1024 a.xml", b"a.xml", 1024, at),
        (b"11-23-26  13:45                 1024 a.xml", b"a.xml", 1024, at),
        (
            b"11/23/2026  01:45 1,048,576 two  words",
            b"two  words",
            1_048_576,
            datetime(2026, 11, 23, 1, 45, 0, 0),
        ),
        (b"23.11.2026  13:45  1.024 a", b"a", 1024, at),
        (b"2026/11/23  13:45  1024 a", b"a", 1024, at),
        (b"11-23-26  12:00AM  0 a", b"a", 0, datetime(2026, 11, 23, 0, 0, 0, 0)),
        (b"11-23-26  12:00PM  0 a", b"a", 0, datetime(2026, 11, 23, 12, 0, 0, 0)),
        (b"02-29-96  12:00PM  0 a", b"a", 0, datetime(1996, 2, 29, 12, 0, 0, 0)),
        (b"11-23-26  01:45PM  7 k\xe4se", b"k\xe4se", 7, at),
    ];
    for (line, name, bytes, at) in corpus {
        check_list(line, name, *bytes, *at);
    }
}

#[test]
fn what_is_no_file_is_skipped() {
    for line in [
        "total 128",
        "insgesamt 12",
        "",
        "drwxr-xr-x    2 1000     1000         4096 Nov 23 12:00 folder",
        "drwxrwsr-t    2 1000     1000         4096 Nov 23 12:00 folder",
        "lrwxrwxrwx    1 1000     1000            3 Nov 23 12:00 link -> a.xml",
        "crw-rw-rw-    1 root     root       1,   3 Nov 23 12:00 null",
        "prw-r--r--    1 root     root            0 Nov 23 12:00 pipe",
        "srwxr-xr-x    1 root     root            0 Nov 23 12:00 socket",
        "-rw-r--r--    1 root     root            0 Nov 23 12:00 .",
        "11-23-26  01:45PM       <DIR>          folder",
        "11-23-26  01:45PM       <SYMLINK>      link [c:\\a]",
    ] {
        assert_eq!(list(line.as_bytes(), TODAY), Line::Other, "{line}");
    }
}

#[test]
fn what_is_not_understood_is_said() {
    for line in [
        "A.TXT;1   3/4  23-NOV-2026 12:00  [GROUP,OWNER]  (RWED,RWED,RE,)", // VMS
        "WYOSPT 3420   2026/11/23  1  200  FB      80  8053  PS  AB.CD",    // MVS
        "-rw-r--r--    1 root     root         1024 000 23 12:00 a",        // FluentFTP #1727
        "-rw-r--r--    1 root     root         1024 Nov 31 12:00 a",
        "-rw-r--r--    1 root     root         1024 Feb 29  2025 a",
        "-rw-r--r--    1 root     root         1024 Nov 23 25:00 a",
        "-rw-r--r--    1 root     root     99999999999999999999999 Nov 23 12:00 a",
        "-rw-r--r--    1 root     root         1024 Nov 23 12:00",
        "-rw-r--r--    1 root     root         1024 Nov 23 12:00 a/b",
        "-rw-r--r--    1 root     root         1024 Nov 23 12:00 a\0b",
        "11-23-26  13:45PM  1 a",
        "13-23-26  01:45PM  1 a",
        "11-23-26  01:45PM  1",
        "directory not found",
        "ls: cannot open directory '.': Permission denied",
    ] {
        assert_eq!(list(line.as_bytes(), TODAY), Line::Strange, "{line}");
    }
}

#[test]
fn lines_of_mlsd() {
    let exact = Sighting { bytes: Some(5), modified_ms: Some(1_795_435_200_000), coarse: false };
    let check = |line: &str, name: &str, sighting: Sighting| {
        let expected = Line::File { name: name.as_bytes().to_vec(), sighting };
        assert_eq!(mlsd(line.as_bytes()), expected, "{line}");
    };
    // ProFTPD, Pure-FTPd, FileZilla, and the odd case that RFC 3659 allows.
    check("modify=20261123120000;perm=adfrw;size=5;type=file;unique=1U2; a", "a", exact);
    check("type=file;size=5;modify=20261123120000;UNIX.mode=0644;unique=1g2; a", "a", exact);
    check("Type=File;Size=5;Modify=20261123120000; two  words", "two  words", exact);
    check("type=file;size=5;modify=20261123120000;  led", " led", exact);
    check("size=5;modify=20261123120000; a;b=c", "a;b=c", exact);
    let later = Sighting { modified_ms: Some(1_795_435_200_123), ..exact };
    check("type=file;size=5;modify=20261123120000.123; a", "a", later);
    check("type=file; a", "a", Sighting::default());
    check("type=file;size=-1;modify=yesterday; a", "a", Sighting::default());
    for other in [
        "type=cdir;modify=20261123120000; .",
        "type=pdir;modify=20261123120000; ..",
        "type=dir;modify=20261123120000; sub",
        "type=OS.unix=symlink;size=1; link",
        "type=OS.unix=slink:/a;size=1; link",
        "modify=20261123120000; ..",
        "",
    ] {
        assert_eq!(mlsd(other.as_bytes()), Line::Other, "{other}");
    }
    for strange in ["nonsense", "no facts here", "type=file;size=5; ", "type=file; a/b"] {
        assert_eq!(mlsd(strange.as_bytes()), Line::Strange, "{strange}");
    }
}

#[test]
fn lines_of_nlst() {
    for (line, name) in [
        ("a.xml", "a.xml"),
        ("./a.xml", "a.xml"),
        ("/out/a.xml", "a.xml"),
        ("two words", "two words"),
        ("/out", "/out"),
    ] {
        let expected = match name {
            "/out" => Line::Strange,
            _ => Line::File { name: name.as_bytes().to_vec(), sighting: Sighting::default() },
        };
        assert_eq!(nlst(line.as_bytes(), b"/out"), expected, "{line}");
    }
    for line in [".", "..", "", "./.."] {
        assert_eq!(nlst(line.as_bytes(), b"/out"), Line::Other, "{line}");
    }
    assert_eq!(nlst(b"/etc/passwd", b"/out"), Line::Strange);
    assert_eq!(nlst(b"../a", b""), Line::Strange);
}

#[test]
fn moments() {
    for (text, expected) in [
        ("19700101000000", Some(0)),
        ("20240229120000", Some(1_709_208_000_000)),
        ("20261123120000.5", Some(1_795_435_200_500)),
        ("20161231235960", Some(1_483_228_799_000)),
        ("20250229120000", None),
        ("2026112312000", None),
        ("202611231200000", None),
        ("", None),
    ] {
        assert_eq!(moment(text.as_bytes()), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
        for parsed in [list(&line, TODAY), mlsd(&line), nlst(&line, b"/out"), nlst(&line, b"")] {
            if let Line::File { name, .. } = parsed {
                let danger = |byte: &u8| matches!(byte, b'/' | b'\r' | b'\n' | 0);
                prop_assert!(!name.is_empty() && !name.iter().any(danger));
            }
        }
        let _ = moment(&line);
    }

    #[test]
    fn nor_do_lines_that_look_nearly_right(
        line in "[-dl0-9][-rwx]{0,9}( {1,3}([A-Za-z0-9.:/,<>-]{1,12}|Nov|Feb|29|12:00|2024)){0,9}"
    ) {
        let _ = list(line.as_bytes(), TODAY);
    }

    #[test]
    fn any_name_survives_a_unix_listing(name in "[^/\r\n\0]{1,60}") {
        prop_assume!(name != "." && name != "..");
        let line = format!("-rw-r--r--    1 1000     1000         1024 Nov 23 12:00 {name}");
        let parsed = list(line.as_bytes(), TODAY);
        let is_same = matches!(&parsed, Line::File { name: found, .. } if found == name.as_bytes());
        prop_assert!(is_same, "{parsed:?}");
    }
}
