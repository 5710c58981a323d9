//! Each FTP server starts for real and does what an adapter needs of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use testbed::{FtpKind, FtpOptions, FtpServer, FtpTls, or_skip};

/// Nothing here needs more than milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn vsftpd_serves_files() {
    serves_files(FtpKind::Vsftpd);
}

#[test]
fn proftpd_serves_files() {
    serves_files(FtpKind::Proftpd);
}

#[test]
fn pure_ftpd_serves_files() {
    serves_files(FtpKind::PureFtpd);
}

fn serves_files(kind: FtpKind) {
    let Some(server) = start(kind, FtpTls::Off) else {
        return;
    };
    let order = server.put("in/order.xml", b"<order/>").expect("a file of the partner");
    let mut client = Client::log_in(&server);
    client.expect(&format!("CWD {}/in", server.folder()), "250");
    client.expect("TYPE I", "200");

    assert!(client.receive("LIST").contains("order.xml"));
    assert_eq!(client.receive("RETR order.xml"), "<order/>");
    client.expect("SIZE order.xml", "213 8");
    client.send("STOR answer.xml", b"<answer/>");
    let answer = order.with_file_name("answer.xml");
    assert_eq!(fs::read(&answer).expect("an upload"), b"<answer/>");
    client.expect("RNFR answer.xml", "350");
    client.expect("RNTO done.xml", "250");
    client.expect("DELE order.xml", "250");
    client.expect("DELE done.xml", "250");
    client.expect("DELE done.xml", "550");
    assert!(!order.exists() && !answer.exists());
    client.expect("MKD deeper", "257");
    client.expect("RMD deeper", "250");
    client.expect("QUIT", "221");
}

#[test]
fn vsftpd_speaks_explicit_tls() {
    speaks_explicit_tls(FtpKind::Vsftpd);
}

#[test]
fn proftpd_speaks_explicit_tls() {
    speaks_explicit_tls(FtpKind::Proftpd);
}

#[test]
fn pure_ftpd_speaks_explicit_tls() {
    speaks_explicit_tls(FtpKind::PureFtpd);
}

fn speaks_explicit_tls(kind: FtpKind) {
    let Some(server) = start(kind, FtpTls::Explicit) else {
        return;
    };
    Client::connect(&server).expect("AUTH TLS", "234");
    let mut plain = Client::connect(&server);
    let refused = plain.say(&format!("USER {}", server.user()));
    let refused = match refused.as_bytes() {
        [b'3', ..] => plain.say(&format!("PASS {}", server.password())),
        _ => refused,
    };
    assert!(refused.starts_with(['4', '5']), "a plain login must be refused: {refused}");
    fetches_over_tls(&server, "ftp", &["--ssl-reqd"]);
}

#[test]
fn vsftpd_speaks_implicit_tls() {
    speaks_implicit_tls(FtpKind::Vsftpd);
}

#[test]
fn proftpd_speaks_implicit_tls() {
    speaks_implicit_tls(FtpKind::Proftpd);
}

fn speaks_implicit_tls(kind: FtpKind) {
    let Some(server) = start(kind, FtpTls::Implicit) else {
        return;
    };
    fetches_over_tls(&server, "ftps", &[]);
}

#[test]
fn pure_ftpd_refuses_implicit_tls_in_words() {
    let options = FtpOptions { tls: FtpTls::Implicit, ..FtpOptions::default() };
    let error = FtpServer::start(FtpKind::PureFtpd, options).expect_err("it can't");
    assert!(error.to_string().contains("no implicit TLS"), "{error}");
}

#[test]
fn a_session_can_be_cut_and_the_server_goes_on() {
    for kind in FtpKind::ALL {
        let Some(server) = start(kind, FtpTls::Off) else {
            continue;
        };
        let mut client = Client::log_in(&server);
        assert!(server.session_processes() > 0, "{kind} forks for a session");
        server.kill_sessions();
        assert_eq!(client.read_line(), "", "{kind} must have closed the session");
        Client::log_in(&server).expect("NOOP", "2");
    }
}

#[test]
fn a_frozen_server_is_silent_and_then_answers() {
    let Some(server) = start(FtpKind::Vsftpd, FtpTls::Off) else {
        return;
    };
    let mut client = Client::log_in(&server);
    server.freeze();
    client.write("NOOP");
    let waiting = thread::spawn(move || (client.read_line(), client));
    thread::sleep(Duration::from_millis(200));
    assert!(!waiting.is_finished(), "a frozen server must not answer");
    server.thaw();
    let (answer, _) = waiting.join().expect("no panic");
    assert!(answer.starts_with("200"), "{answer}");
}

#[test]
fn a_dropped_server_leaves_nothing_behind() {
    let Some(server) = start(FtpKind::Proftpd, FtpTls::Off) else {
        return;
    };
    let (root, port) = (server.root().to_owned(), server.port());
    drop(server);
    assert!(!root.exists());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
}

fn start(kind: FtpKind, tls: FtpTls) -> Option<FtpServer> {
    let options = FtpOptions { tls, ..FtpOptions::default() };
    or_skip(FtpServer::start(kind, options))
}

/// curl checks the certificate against the authority, encrypts the data connection, and deletes.
fn fetches_over_tls(server: &FtpServer, scheme: &str, more: &[&str]) {
    let file = server.put("a.txt", b"secret").expect("a file");
    let authority = server.root().with_file_name("authority.pem");
    fs::write(&authority, server.ca_pem().expect("TLS is on")).expect("a writable folder");
    let folder = server.folder();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(["--user", &format!("{}:{}", server.user(), server.password())])
        .arg("--cacert")
        .arg(&authority)
        .args(["--quote", &format!("-DELE {folder}/a.txt")])
        .args(more)
        .arg(format!("{scheme}://127.0.0.1:{}{folder}/a.txt", server.port()))
        .output()
        .expect("curl is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "secret", "{complaint}");
    assert!(!file.exists(), "curl must have deleted the file");
}

/// As little of an FTP client as shows that a server works.
struct Client {
    control: BufReader<TcpStream>,
}

impl Client {
    fn connect(server: &FtpServer) -> Client {
        let mut client = Client { control: BufReader::new(connect(server.port())) };
        assert!(client.read_reply().starts_with("220"), "a greeting");
        client
    }

    fn log_in(server: &FtpServer) -> Client {
        let mut client = Client::connect(server);
        client.expect(&format!("USER {}", server.user()), "331");
        client.expect(&format!("PASS {}", server.password()), "230");
        client
    }

    fn expect(&mut self, command: &str, code: &str) {
        let reply = self.say(command);
        assert!(reply.starts_with(code), "{command}: {reply}");
    }

    fn say(&mut self, command: &str) -> String {
        self.write(command);
        self.read_reply()
    }

    /// Runs a command that answers on a data connection.
    fn receive(&mut self, command: &str) -> String {
        let mut data = self.open_data(command);
        let mut received = String::new();
        data.read_to_string(&mut received).expect("text");
        // proftpd waits up to 10 s for our end to close before it says that all went well.
        drop(data);
        assert!(self.read_reply().starts_with("226"), "{command} ends well");
        received
    }

    fn send(&mut self, command: &str, content: &[u8]) {
        let mut data = self.open_data(command);
        data.write_all(content).expect("room for the content");
        drop(data);
        assert!(self.read_reply().starts_with("226"), "{command} ends well");
    }

    fn open_data(&mut self, command: &str) -> TcpStream {
        let reply = self.say("PASV");
        let numbers = reply.split(['(', ')']).nth(1).expect("an address");
        let numbers: Vec<u16> =
            numbers.split(',').map(|number| number.parse().expect("a number")).collect();
        let data = connect(numbers[4] * 256 + numbers[5]);
        self.expect(command, "150");
        data
    }

    fn write(&mut self, command: &str) {
        let line = format!("{command}\r\n");
        self.control.get_mut().write_all(line.as_bytes()).expect("an open session");
    }

    /// The last line of a reply: its code is followed by a blank, not by a dash.
    fn read_reply(&mut self) -> String {
        loop {
            let line = self.read_line();
            assert!(!line.is_empty(), "the server closed the session");
            if line.as_bytes().get(3) == Some(&b' ') {
                return line;
            }
        }
    }

    /// Empty when the session is closed.
    fn read_line(&mut self) -> String {
        let mut line = String::new();
        match self.control.read_line(&mut line) {
            Ok(_) => line.trim_end().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a listening server");
    stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a limit is set");
    stream
}
