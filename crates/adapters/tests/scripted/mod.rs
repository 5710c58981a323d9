//! An FTP server that follows a script: polite, but for the acts that a test gives it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use adapter::{Result, Session};
use model::Millis;
use model::definition::{FtpReceive, ReceiveKind};

use crate::common;
use Act::*;

/// What the server does when it gets a command.
#[derive(Debug, Clone)]
pub enum Act {
    /// Says this, as it is.
    Say(&'static str),
    /// Says this, and that a little later.
    SayThenLater(&'static str, &'static str),
    /// Sends these bytes over the data connection, then says this.
    Data(Vec<u8>, &'static str),
    /// Sends bytes for ever.
    Endless(&'static str),
    /// Sends a byte each 100 ms for ever.
    Trickle,
    /// Says nothing.
    Silence,
    /// Opens the data connection and sends nothing.
    DataSilence,
    /// Closes the connection.
    Close,
}

pub struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Polite but for the given acts. `""` is the greeting.
    pub fn start(acts: Vec<(&'static str, Act)>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        thread::spawn(move || {
            for control in listener.incoming().flatten() {
                let (acts, log) = (acts.clone(), Arc::clone(&log));
                thread::spawn(move || Serving { acts, log, data: None }.run(control));
            }
        });
        Server { port, heard }
    }

    pub fn setting(&self) -> FtpReceive {
        let mut setting = common::ftp(self.port, "acme", "hunter2");
        setting.folder = "/out".to_owned();
        setting.connect_timeout = Millis::seconds(1);
        setting.reply_timeout = Millis::seconds(1);
        setting
    }

    pub async fn connect(&self) -> Result<Box<dyn Session>> {
        adapters::source(&ReceiveKind::Ftp(self.setting())).expect("a source").connect().await
    }

    pub async fn session(&self) -> Box<dyn Session> {
        self.connect().await.expect("a session")
    }

    pub fn heard(&self, verb: &str) -> usize {
        let heard = self.heard.lock().expect("the log");
        heard.iter().filter(|line| line.split(' ').next() == Some(verb)).count()
    }
}

struct Serving {
    acts: Vec<(&'static str, Act)>,
    log: Arc<Mutex<Vec<String>>>,
    data: Option<TcpListener>,
}

impl Serving {
    fn run(mut self, mut control: TcpStream) -> Option<()> {
        self.act(&mut control, "", Say("220 hello\r\n"))?;
        let mut lines = BufReader::new(control.try_clone().ok()?);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            self.log.lock().ok()?.push(line.clone());
            let verb = line.split(' ').next()?;
            let polite = self.polite(verb)?;
            self.act(&mut control, verb, polite)?;
        }
    }

    fn polite(&mut self, verb: &str) -> Option<Act> {
        Some(Say(match verb {
            "USER" => "331 password\r\n",
            "PASS" => "230 in\r\n",
            "FEAT" => "211-Features\r\n SIZE\r\n MDTM\r\n211 end\r\n",
            "SIZE" => "213 5\r\n",
            "MDTM" => "213 20261123120000\r\n",
            "EPSV" => {
                let listener = TcpListener::bind("127.0.0.1:0").ok()?;
                let port = listener.local_addr().ok()?.port();
                self.data = Some(listener);
                return Some(Say(format!("229 ok (|||{port}|)\r\n").leak()));
            }
            "PASV" => {
                let listener = TcpListener::bind("127.0.0.1:0").ok()?;
                let [high, low] = listener.local_addr().ok()?.port().to_be_bytes();
                self.data = Some(listener);
                // A private address of another network: behind NAT, or worse.
                return Some(Say(format!("227 ok (10,1,2,3,{high},{low})\r\n").leak()));
            }
            "RETR" => return Some(Data(b"12345".to_vec(), "226 done\r\n")),
            "LIST" => {
                let line = b"-rw-r--r-- 1 f f 5 Nov 23 12:00 a.xml\r\n";
                return Some(Data(line.to_vec(), "226 done\r\n"));
            }
            "NLST" => return Some(Data(b"a.xml\r\n".to_vec(), "226 done\r\n")),
            "RNFR" => "350 go on\r\n",
            _ => "250 done\r\n",
        }))
    }

    fn act(&mut self, control: &mut TcpStream, verb: &str, polite: Act) -> Option<()> {
        let chosen = self.acts.iter().find(|(name, _)| *name == verb);
        match chosen.map_or(polite, |(_, act)| act.clone()) {
            Say(text) => control.write_all(text.as_bytes()).ok(),
            SayThenLater(now, later) => {
                control.write_all(now.as_bytes()).ok()?;
                thread::sleep(Duration::from_millis(100));
                control.write_all(later.as_bytes()).ok()
            }
            Data(bytes, text) => {
                let (mut data, _) = self.data.take()?.accept().ok()?;
                control.write_all(b"150 here\r\n").ok()?;
                data.write_all(&bytes).ok()?;
                drop(data);
                control.write_all(text.as_bytes()).ok()
            }
            Endless(text) => loop {
                control.write_all(text.repeat(100).as_bytes()).ok()?;
            },
            Trickle => loop {
                control.write_all(b"2").ok()?;
                thread::sleep(Duration::from_millis(100));
            },
            Silence => Some(()),
            DataSilence => {
                let accepted = self.data.take()?.accept().ok()?;
                control.write_all(b"150 here\r\n").ok()?;
                thread::sleep(Duration::from_secs(10));
                drop(accepted);
                None
            }
            Close => None,
        }
    }
}
